// Parallel coordinates: a line for each run through a scale for each setting and one for a metric.
"use strict";

/**
 * The plot in `panel`. `runs` have a `name`, a `label`, `settings` in the order of the keys `settings`, and `metrics`:
 * {name: {final, best}}. `metrics` are all their names; the plot starts with the best value of `objective`.
 */
gantrain.parallel = (panel, { runs, settings, metrics, objective }) => {
  const { make, choice, setText, number } = gantrain;
  const SVG = "http://www.w3.org/2000/svg";
  const [APART, HEIGHT, TOP, SIDE] = [190, 300, 34, 80]; // Pixels; a plot wider than the page can be scrolled.

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  /** Numbers and missing values as they are, everything else as text: two lists are never equal, even of equal values. */
  function comparable(value) {
    if (typeof value === "number" || value === null || value === undefined) return value;
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  /** {place, marks}: position of a value in [0, 1], and the labels of the scale; `spread` makes it proportional. */
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

  /** Position of a number between the lowest and the highest. */
  function scaleOfNumbers(values, value) {
    const there = values.filter(Number.isFinite);
    const [low, high] = [Math.min(...there), Math.max(...there)];
    return high > low ? (value - low) / (high - low) : 0.5;
  }

  const options = metrics.flatMap((name) => [[`best ${name}`, `best ${name}`], [`final ${name}`, `final ${name}`]]);
  const hovered = make("output", {});
  const frame = make("div", { class: "scroll" });
  function show(column) {
    const [kind, ...words] = (column ?? "").split(" ");
    const metric = words.join(" ");
    const columns = settings.map((key, place) => [key, runs.map((run) => comparable(run.settings[place]))]);
    if (column) columns.push([column, runs.map((run) => run.metrics[metric]?.[kind])]);
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
      const description = [run.label, column && Number.isFinite(end) ? `${column} ${number(end)}` : null].filter(Boolean).join(": ");
      for (const event of ["pointerenter", "focus"]) line.addEventListener(event, () => setText(hovered, description));
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
    const label = "a line for each run through its settings and metrics; the table above has them as text";
    frame.replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, style: `min-width: ${width}px`, class: "parallel", role: "group", "aria-label": label }, ...lines, ...axes));
  }
  const first = objective && metrics.includes(objective) ? `best ${objective}` : options[0]?.[0];
  panel.append(
    make("div", { class: "controls" }, options.length ? choice("metric", options, show) : null, hovered),
    frame,
    make("p", { class: "hint" }, "Point at a line to see which run it is."),
  );
  show(first);
};
