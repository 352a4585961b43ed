// The page that compares runs: a table to sort, their curves in the same charts, and their samples side by side.
"use strict";

(async () => {
  const { load, make, choice, setText, labelOf, number, duration, sizeOf, setSize, sortable, tile, enlarge } = gantrain;
  const { comparison } = await load("comparison");
  const { runs, differ, follow, metrics, objective, written } = comparison;
  const byId = (id) => document.getElementById(id);
  const SMALL = 128; // Pixels; smaller images are enlarged without smoothing.

  // ---- labels

  function settingText(value) {
    if (value === null || value === undefined) return "–";
    if (typeof value === "number") return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  /** Runs are labelled by their settings, or by their names if the settings are the same. */
  const last = differ.map((key) => key.replaceAll("/", ".").replace(/[.](name|mode)$/, "").split(".").at(-1));
  const words = last.map((word, place) => (last.indexOf(word) === last.lastIndexOf(word) ? word : differ[place]));
  const labels = runs.map(({ settings }) => words.map((word, place) => `${word} ${settingText(settings[place])}`).join(", "));
  runs.forEach((run, place) => {
    const unique = labels.indexOf(labels[place]) === labels.lastIndexOf(labels[place]);
    run.label = unique && labels[place] ? labels[place] : run.name;
  });

  // ---- the table

  const table = byId("runs");

  /** A missing value has an empty `data-value`, which is sorted last. */
  function cell(content, value, kind = null) {
    return make("td", { class: kind, "data-value": value }, content);
  }

  const has = (name, kind) => kind === "final" || runs.some((run) => run.metrics[name]?.[kind] !== undefined);
  const columns = metrics.flatMap((name) => ["final", "best"].filter((kind) => has(name, kind)).map((kind) => [name, kind]));

  function row(run) {
    const status = cell(make("span", { class: "pill", "data-state": run.status }, run.status), run.status);
    if (run.message) status.append(make("p", { class: "hint" }, run.message));
    return make(
      "tr",
      {},
      cell(run.has_page ? make("a", { href: `${run.folder}/index.html` }, run.name) : run.name, run.name),
      status,
      cell(number(run.step), run.step),
      cell(duration(run.seconds), run.seconds),
      ...run.settings.map((value, place) => cell(settingText(value), value === null ? "" : settingText(value), place < differ.length ? null : "follows")),
      ...columns.map(([name, kind]) => cell(number(run.metrics[name]?.[kind]), run.metrics[name]?.[kind] ?? "", kind)),
    );
  }

  const heads = [...["run", "status", "step", "time", ...differ].map((key) => [key, null]), ...follow.map((key) => [key, "follows"])];
  heads.push(...columns.map(([name, kind]) => [`${kind} ${labelOf(name)}`, kind]));
  table.append(
    make("thead", {}, make("tr", {}, ...heads.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
    make("tbody", {}, ...runs.map(row)),
  );
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

  if (metrics.length) {
    // Every chart has all runs, so that a run has the same colour in all of them.
    const shown = runs.filter((run) => Object.keys(run.metrics).length);
    const titled = metrics.map((name) => ({
      title: labelOf(name),
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

  // ---- samples and test images

  const whats = [...new Set(runs.flatMap((run) => run.images.map(({ what }) => what)))];
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.tested)))];
  const kinds = [...new Set(runs.flatMap((run) => Object.values(run.tested).flatMap((made) => Object.keys(made))))];
  const steps = [...new Set(runs.flatMap((run) => run.images.map(({ step }) => step)))].sort((one, other) => one - other);
  // Models show different kinds in one image; the kinds that several of them show can be cut out.
  const sets = new Map(runs.flatMap((run) => run.images.map(({ what, kinds: each }) => [what, each ?? []])));
  const shared = [...new Set([...sets.values()].flat())].filter((kind) => [...sets.values()].filter((set) => set.includes(kind)).length > 1);
  shared.sort((one, other) => other.startsWith("fake") - one.startsWith("fake"));
  // `of` is, depending on `group`, a kind of image, a kind to cut out of any image, or a kind of the test image `name`.
  const wanted = { group: "", of: "", step: Infinity, name: names[0] };

  // A run that started over has other images with the same names, and browsers cache the old ones.
  const addressOf = (run, place) => `${run.folder}/${place}?${written}`;

  /** {source, description, small, size, grid} of the chosen image of a run, if it has one; `grid` if it is to be cut out. */
  function imageOf(run) {
    if (wanted.group === "tested") {
      const place = run.tested[wanted.name]?.[wanted.of];
      return place && { source: addressOf(run, place), description: `${wanted.of} of ${wanted.name}` };
    }
    const cut = wanted.group === "cut";
    const fits = (image) => (cut ? image.kinds?.includes(wanted.of) : image.what === wanted.of) && image.step <= wanted.step;
    const newest = run.images.filter(fits).reduce((one, other) => (one && one.step >= other.step ? one : other), null);
    if (!newest) return null;
    const source = addressOf(run, newest.url);
    const grid = cut ? { ...newest, url: source } : null;
    return { source, description: `step ${number(newest.step)}`, small: (newest.width ?? 0) <= SMALL, size: sizeOf(newest), grid };
  }

  function cutOut({ grid, small }, alt) {
    const column = grid.kinds.indexOf(wanted.of);
    const tiles = Array.from({ length: grid.rows }, (_, row) => tile(grid, column, row, `${wanted.of} of preview ${row + 1}, ${alt}`));
    return make("div", { class: small ? "small tiles" : "tiles" }, ...tiles);
  }

  function large(run) {
    const shown = runs.filter(imageOf);
    enlarge({
      count: shown.length,
      start: shown.indexOf(run),
      show: (index) => {
        const image = imageOf(shown[index]);
        const { source, description, small } = image;
        const title = `${shown[index].label}: ${description}`;
        return { title, content: image.grid ? cutOut(image, title) : make("img", { src: source, alt: title, class: small ? "small whole" : "whole" }) };
      },
      closed: (index) => shown[index].figure.querySelector("button").focus(),
    });
  }

  function showSamples() {
    for (const run of runs) {
      const image = imageOf(run);
      run.figure.hidden = !image;
      if (!image) continue;
      setText(run.caption, `${run.label}: ${image.description}`);
      if (image.grid) {
        run.open.replaceChildren(cutOut(image, run.caption.textContent));
        continue;
      }
      if (!run.image.isConnected) run.open.replaceChildren(run.image);
      run.image.alt = run.caption.textContent;
      run.image.classList.toggle("small", Boolean(image.small));
      setSize(run.image, image.size);
      if (run.image.getAttribute("src") !== image.source) run.image.src = image.source;
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
      // Not every test image has every kind.
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
      run.open = make("button", { type: "button", class: "plain image", "aria-label": `enlarge ${run.label}`, onclick: () => large(run) }, run.image);
      run.figure = make("figure", {}, run.open, run.caption);
      grid.append(run.figure);
    }
    const controls = make("div", { class: "controls" }, choices.length > 1 ? choice("show", choices, choose) : null, moment, image);
    byId("samples").append(controls, grid);
    byId("samples").hidden = false;
    choose(choices[0][0]);
  }

  if (byId("parallel")) gantrain.parallel(byId("parallel"), { runs, settings: differ, metrics, objective });
})();
