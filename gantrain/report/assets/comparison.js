// The page of several runs: a table to sort, curves over each other, the same samples next to each other, and a line for
// each run through its settings and figures.
"use strict";

(async () => {
  const { load, make, choice, setText, number, sizeOf, setSize, sortable, tile, enlarge } = gantrain;
  const { comparison } = await load("comparison");
  const { runs, settings, figures, objective, written } = comparison;
  const byId = (id) => document.getElementById(id);
  const SMALL = 128; // pixels; smaller pictures are shown in squares

  // ---- the table

  const table = byId("runs");
  sortable(table);

  function box(text, kind, shown) {
    const cells = table.querySelectorAll(`.${kind}`);
    if (!cells.length) return null;
    const input = make("input", { type: "checkbox", checked: shown, onchange: show });
    function show() {
      for (const cell of cells) cell.hidden = !input.checked;
    }
    show();
    return make("label", {}, input, make("span", {}, text));
  }

  byId("columns").append(
    ...[box("settings that follow from others", "follows", false), box("final", "final", true), box("best", "best", true)].filter(Boolean),
  );

  // ---- curves

  if (figures.length) {
    // a run has one colour in all charts, so each has all runs
    const shown = runs.filter((run) => Object.keys(run.figures).length);
    const titled = figures.map((name) => ({
      title: name,
      series: shown.map((run) => {
        const { value, ...clock } = run.curves[name];
        const lines = value.map((point, place) => ({
          ...Object.fromEntries(Object.entries(clock).map(([key, column]) => [key, column[place]])),
          value: point,
        }));
        return { name: run.label, key: "value", lines };
      }),
    }));
    gantrain.curves(byId("curves"), { axes: ["step", "epoch", "kimg"] }).show(titled);
  } else byId("curves").hidden = true;

  // ---- samples of the training, and test images

  const whats = [...new Set(runs.flatMap((run) => run.pictures.map(({ what }) => what)))];
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.tested)))];
  const kinds = [...new Set(runs.flatMap((run) => Object.values(run.tested).flatMap((made) => Object.keys(made))))];
  const steps = [...new Set(runs.flatMap((run) => run.pictures.map(({ step }) => step)))].sort((one, other) => one - other);
  // models show different kinds in one picture; those that several show can be cut out
  const sets = new Map(runs.flatMap((run) => run.pictures.map(({ what, kinds: each }) => [what, each ?? []])));
  const shared = [...new Set([...sets.values()].flat())].filter((kind) => [...sets.values()].filter((set) => set.includes(kind)).length > 1);
  shared.sort((one, other) => other.startsWith("fake") - one.startsWith("fake"));
  // in a `group`, `of` says which picture, which kind in any picture, or which kind of the test image `name`
  const wanted = { group: "", of: "", step: Infinity, name: names[0] };

  // a run that was made anew has other pictures of the same names, and browsers keep what they have
  const addressOf = (run, place) => `${run.folder}/${place}?${written}`;

  /** {source, told, small, size, grid}: what a run has of what is wanted, if it has it; of a grid one kind alone. */
  function pictureOf(run) {
    if (wanted.group === "tested") {
      const place = run.tested[wanted.name]?.[wanted.of];
      return place && { source: addressOf(run, place), told: `${wanted.of} of ${wanted.name}` };
    }
    const cut = wanted.group === "cut";
    const fits = (picture) => (cut ? picture.kinds?.includes(wanted.of) : picture.what === wanted.of) && picture.step <= wanted.step;
    const newest = run.pictures.filter(fits).reduce((one, other) => (one && one.step >= other.step ? one : other), null);
    if (!newest) return null;
    const source = addressOf(run, newest.url);
    const grid = cut ? { ...newest, url: source } : null;
    return { source, told: `step ${number(newest.step)}`, small: (newest.width ?? 0) <= SMALL, size: sizeOf(newest), grid };
  }

  function cutOut({ grid, small }, alt) {
    const column = grid.kinds.indexOf(wanted.of);
    const tiles = Array.from({ length: grid.rows }, (_, row) => tile(grid, column, row, `${wanted.of} of preview ${row + 1}, ${alt}`));
    return make("div", { class: small ? "small tiles" : "tiles" }, ...tiles);
  }

  function large(run) {
    const shown = runs.filter(pictureOf);
    enlarge({
      count: shown.length,
      start: shown.indexOf(run),
      show: (index) => {
        const picture = pictureOf(shown[index]);
        const { source, told, small } = picture;
        const title = `${shown[index].label}: ${told}`;
        return { title, content: picture.grid ? cutOut(picture, title) : make("img", { src: source, alt: title, class: small ? "small whole" : "whole" }) };
      },
      closed: (index) => shown[index].figure.querySelector("button").focus(),
    });
  }

  function showSamples() {
    for (const run of runs) {
      const picture = pictureOf(run);
      run.figure.hidden = !picture;
      if (!picture) continue;
      setText(run.caption, `${run.label}: ${picture.told}`);
      if (picture.grid) {
        run.open.replaceChildren(cutOut(picture, run.caption.textContent));
        continue;
      }
      if (!run.image.isConnected) run.open.replaceChildren(run.image);
      run.image.alt = run.caption.textContent;
      run.image.classList.toggle("small", Boolean(picture.small));
      setSize(run.image, picture.size);
      if (run.image.getAttribute("src") !== picture.source) run.image.src = picture.source;
    }
  }

  if (whats.length || names.length) {
    const output = make("output", {}, number(steps.at(-1)));
    const slider = make("input", {
      type: "range", min: 0, max: steps.length - 1, step: 1, value: steps.length - 1, "aria-label": "step of the samples",
      oninput: () => {
        wanted.step = steps[Number(slider.value)];
        slider.setAttribute("aria-valuetext", `step ${wanted.step}`);
        setText(output, number(wanted.step));
        showSamples();
      },
    });
    const moment = make("label", { class: "wide" }, make("span", {}, "up to step"), slider, output);
    const image = choice("test image", [], (name) => ((wanted.name = name), showSamples()));
    const choices = [...shared.map((kind) => [`cut ${kind}`, kind]), ...whats.map((what) => [`samples ${what}`, what]), ...kinds.map((kind) => [`tested ${kind}`, `test: ${kind}`])];
    const choose = (value) => {
      const [group, ...words] = value.split(" ");
      Object.assign(wanted, { group, of: words.join(" ") });
      moment.hidden = group === "tested";
      image.hidden = group !== "tested";
      // not every kind is made of every image
      const made = names.filter((name) => runs.some((run) => run.tested[name]?.[wanted.of]));
      if (!made.includes(wanted.name)) wanted.name = made[0];
      const select = image.querySelector("select");
      select.replaceChildren(...made.map((name) => make("option", { value: name }, name)));
      if (made.length) select.value = wanted.name;
      showSamples();
    };
    const grid = make("div", { class: "grids" });
    for (const run of runs) {
      run.image = make("img", { alt: "", loading: "lazy" });
      run.caption = make("figcaption", {});
      run.open = make("button", { type: "button", class: "plain picture", "aria-label": `enlarge ${run.label}`, onclick: () => large(run) }, run.image);
      run.figure = make("figure", {}, run.open, run.caption);
      grid.append(run.figure);
    }
    const controls = make("div", { class: "controls" }, choices.length > 1 ? choice("show", choices, choose) : null, moment, image);
    byId("samples").append(controls, grid);
    byId("samples").hidden = false;
    choose(choices[0][0]);
  }

  // ---- a line for each run, through a scale for each setting and one for a figure

  const SVG = "http://www.w3.org/2000/svg";
  const [APART, HEIGHT, TOP, SIDE] = [190, 300, 34, 80]; // pixels; what is too wide for the page can be scrolled

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  /** A number or nothing as it is, and all else as text: two lists of the same values are not the same. */
  function comparable(value) {
    if (typeof value === "number" || value === null || value === undefined) return value;
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  /** {place, marks}: where a value lies between 0 and 1, and what to write beside the scale; `spread` keeps distances. */
  function scaleOf(values, spread) {
    const there = values.filter((value) => value !== null && value !== undefined);
    const text = (value) => (typeof value === "number" ? number(value) : String(value));
    const distinct = [...new Set(there)];
    if (distinct.length > (spread ? 1 : 6) && distinct.every((value) => typeof value === "number")) {
      const [low, high] = [Math.min(...there), Math.max(...there)];
      const logarithmic = low > 0 && high / low > 50;
      const bend = logarithmic ? Math.log : (value) => value;
      const place = (value) => (bend(value) - bend(low)) / (bend(high) - bend(low) || 1);
      const back = (share) => (logarithmic ? low * (high / low) ** share : low + (high - low) * share);
      return { place, marks: [0, 0.25, 0.5, 0.75, 1].map((share) => [share, text(back(share))]) };
    }
    const numeric = distinct.every((value) => typeof value === "number");
    distinct.sort(numeric ? (one, other) => one - other : (one, other) => text(one).localeCompare(text(other), undefined, { numeric: true }));
    const place = (value) => (distinct.length > 1 ? distinct.indexOf(value) / (distinct.length - 1) : 0.5);
    return { place, marks: distinct.map((value) => [place(value), text(value)]) };
  }

  function parallel(panel) {
    const options = figures.flatMap((name) => [[`best ${name}`, `best ${name}`], [`final ${name}`, `final ${name}`]]);
    const hovered = make("output", {});
    const frame = make("div", { class: "scroll" });
    function show(column) {
      const [kind, ...words] = (column ?? "").split(" ");
      const figure = words.join(" ");
      const columns = settings.map((key, place) => [key, runs.map((run) => comparable(run.settings[place]))]);
      if (column) columns.push([column, runs.map((run) => run.figures[figure]?.[kind])]);
      const scales = columns.map(([key, values]) => scaleOf(values, key === column));
      const width = Math.max(frame.clientWidth, columns.length * APART);
      const x = (place) => SIDE + (place * (width - 2 * SIDE)) / Math.max(1, columns.length - 1);
      const y = (share) => HEIGHT - 16 - share * (HEIGHT - TOP - 16);
      const lines = runs.map((run, row) => {
        const points = columns
          .map(([, values], place) => [values[row], place])
          .filter(([value]) => value !== null && value !== undefined)
          .map(([value, place]) => `${x(place).toFixed(1)},${y(scales[place].place(value)).toFixed(1)}`);
        const end = columns.at(-1)[1][row];
        const share = column && end !== null && end !== undefined ? scaleOfNumbers(columns.at(-1)[1], end) : 0.5;
        const line = draw("polyline", { points: points.join(" "), class: "way", tabindex: 0, style: `--share: ${share}` });
        line.append(draw("title", {}, run.name));
        const told_ = [run.label, column && Number.isFinite(end) ? `${column} ${number(end)}` : null].filter(Boolean).join(": ");
        for (const event of ["pointerenter", "focus"]) line.addEventListener(event, () => setText(hovered, told_));
        return line;
      });
      const axes = columns.map(([key], place) =>
        draw(
          "g",
          { transform: `translate(${x(place).toFixed(1)} 0)` },
          draw("line", { y1: y(0), y2: y(1), class: "scale" }),
          draw("text", { y: 14, "text-anchor": "middle", class: "name" }, key),
          ...scales[place].marks.map(([share, text]) => draw("text", { x: 7, y: y(share) + 4 }, text)),
        ),
      );
      const label = "a line for each run through its settings and figures, which the table above has as text";
      frame.replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, style: `min-width: ${width}px`, class: "parallel", role: "group", "aria-label": label }, ...lines, ...axes));
    }
    const first = objective && figures.includes(objective) ? `best ${objective}` : options[0]?.[0];
    panel.append(
      make("div", { class: "controls" }, options.length ? choice("figure", options, show) : null, hovered),
      frame,
      make("p", { class: "hint" }, "Point at a line to see which run it is."),
    );
    show(first);
  }

  /** Where a number lies between the lowest and the highest. */
  function scaleOfNumbers(values, value) {
    const there = values.filter(Number.isFinite);
    const [low, high] = [Math.min(...there), Math.max(...there)];
    return high > low ? (value - low) / (high - low) : 0.5;
  }

  if (byId("parallel")) parallel(byId("parallel"));
})();
