// Curves that share smoothing, log scale and zoom, drawn by uPlot.
"use strict";

/**
 * Charts in `panel`. `axes` are the keys of a log line that may be the horizontal axis.
 * Returns {show}, to be called with [{title, series: [{name, lines, key}]}] whenever there are new lines: a series is
 * line[key] of all lines that have it. Zoom, hidden series and scroll position stay as they are.
 * mark([{step, text, listed}]) draws a line at these steps, with the text beside it, and lists the texts unless `listed` is false.
 */
gantrain.curves = (panel, { axes = ["step"] } = {}) => {
  const { make, choice, setText, number } = gantrain;
  const COLOURS = ["#2f6fed", "#e8590c", "#2b9a49", "#b03fd0", "#dd3344", "#1098ad", "#d29200", "#7a8699"];
  const HEIGHT = 220;
  const charts = new Map(); // By title.
  const hidden = new Set(); // Hidden series as "title name".
  let axis = axes[0];
  let smoothing = 0;
  let log = false;
  let zoom = null; // [from, to] of the axis; null for the whole run.
  let wanted = [];
  let marks = [];

  // ---- controls

  const strength = make("output", {}, "0");
  const slider = make("input", {
    type: "range", min: 0, max: 0.99, step: 0.01, value: 0,
    oninput: () => {
      smoothing = Number(slider.value);
      strength.textContent = slider.value;
      draw();
    },
  });
  const logBox = make("input", { type: "checkbox", onchange: () => ((log = logBox.checked), rebuild()) });
  const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
  const reset = button("whole run", "zoom out to the whole run", () => zoomTo(null));
  const shifts = [button("←", "earlier", () => shift(-0.5)), button("→", "later", () => shift(0.5))];
  panel.append(
    make(
      "div",
      { class: "controls" },
      make("label", {}, make("span", {}, "smoothing"), slider, strength),
      make("label", {}, logBox, make("span", {}, "log scale")),
      axes.length > 1
        ? choice("x axis", axes.map((name) => [name, name]), (value) => ((axis = value), (zoom = null), rebuild()))
        : null,
      make("span", { class: "buttons" },
        button("+", "zoom in", () => magnify(0.5)), button("−", "zoom out", () => magnify(2)), ...shifts, reset),
    ),
    make("p", { class: "hint" }, "Drag over a curve with a mouse to zoom, or press +; double-click to see the whole run. Click on a name to hide it."),
  );
  const noted = make("ul", { class: "hint marks", hidden: true });
  const grid = make("div", { class: "charts" });
  panel.append(noted, grid);

  function extent() {
    let [low, high] = [Infinity, -Infinity];
    for (const { series } of wanted)
      for (const { lines } of series)
        for (const line of lines) {
          if (line[axis] < low) low = line[axis];
          if (line[axis] > high) high = line[axis];
        }
    return [low, high];
  }

  function zoomTo(range) {
    zoom = range;
    showZoom();
    for (const { plot } of charts.values()) plot.setData(plot.data);
  }

  function showZoom() {
    for (const each of [reset, ...shifts]) each.disabled = zoom === null;
  }

  /** Move the visible part by a fraction of its length. */
  function shift(share) {
    const [low, high] = extent();
    const [from, to] = zoom;
    const by = Math.max(low - from, Math.min(high - to, share * (to - from)));
    zoomTo([from + by, to + by]);
  }

  function magnify(factor) {
    const [low, high] = extent();
    const [from, to] = zoom ?? [low, high];
    const [middle, half] = [(from + to) / 2, ((to - from) / 2) * factor];
    if (half * 2 >= high - low) zoomTo(null);
    else zoomTo([Math.max(low, middle - half), Math.min(high, middle + half)]);
  }

  // ---- numbers

  /** [positions, values of each series]: the positions of all series, and null where a series has no value. */
  function aligned(series) {
    const columns = series.map(({ lines, key }) => {
      const found = new Map();
      for (const line of lines) if (key in line) found.set(line[axis], line[key]);
      return found;
    });
    const places = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((one, other) => one - other);
    const finite = (value) => (Number.isFinite(value) ? value : null);
    return [places, ...columns.map((column) => places.map((place) => finite(column.get(place))))];
  }

  /** The exponential moving average, with the bias correction of Adam (Kingma and Ba 2015, section 3). */
  function smoothed(values) {
    let [sum, weight] = [0, 0];
    return values.map((value) => {
      if (value === null) return null;
      sum = smoothing * sum + (1 - smoothing) * value;
      weight = smoothing * weight + (1 - smoothing);
      return sum / weight;
    });
  }

  function numbers(chart) {
    const [places, ...values] = aligned(chart.series);
    // A log scale can't show values of zero or below: they are left out, but count in the average.
    const shown = (column) => (log ? column.map((value) => (value > 0 ? value : null)) : column);
    return [places, ...[...(smoothing > 0 ? values.map(smoothed) : []), ...values].map(shown)];
  }

  // ---- marks

  /** Where a step is on the axis: at the last line up to it. */
  function placeOf(step) {
    let place = null;
    for (const { series } of wanted)
      for (const { lines } of series)
        for (const line of lines) if (line.step <= step && !(line[axis] < place)) place = line[axis];
    return axis === "step" ? step : place;
  }

  function drawMarks(plot) {
    const { ctx, bbox } = plot;
    const scale = devicePixelRatio;
    ctx.save();
    Object.assign(ctx, { strokeStyle: ink("--dim"), fillStyle: ink("--dim"), lineWidth: scale, font: `${11 * scale}px system-ui, sans-serif` });
    ctx.setLineDash([4 * scale, 4 * scale]);
    for (const { step, text } of marks) {
      const place = placeOf(step);
      const x = place === null ? NaN : plot.valToPos(place, "x", true);
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      // Left of the line where the right has no room.
      const lines = text.split("\n");
      const width = Math.max(...lines.map((line) => ctx.measureText(line).width));
      const isRight = x + width + 6 * scale <= bbox.left + bbox.width;
      ctx.textAlign = isRight ? "left" : "right";
      lines.forEach((line, row) => ctx.fillText(line, x + (isRight ? 4 : -4) * scale, bbox.top + (12 + 13 * row) * scale));
    }
    ctx.restore();
  }

  // ---- charts

  const colour = (place) => COLOURS[place % COLOURS.length];

  function ink(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  /** Whether a series has a single value, which makes no line. */
  function isAlone(plot, place) {
    return plot.data[place].filter((value) => value !== null && value !== undefined).length === 1;
  }

  function build(chart) {
    const frame = make("figure", { class: "chart" }, make("figcaption", {}, chart.title), make("p", { class: "hint" }));
    const lines = (faint) =>
      chart.series.map(({ name }, number_) => ({
        label: name,
        stroke: colour(number_),
        width: faint ? 1 : 1.75,
        alpha: faint ? 0.25 : 1,
        dash: number_ >= COLOURS.length ? [6, 3] : undefined,
        spanGaps: true,
        points: { show: isAlone, size: 6, fill: colour(number_) },
        show: !hidden.has(`${chart.title} ${name}`),
        value: (_, value) => (value === null || value === undefined ? "–" : number(value)),
      }));
    const axisStyle = {
      stroke: () => ink("--dim"),
      grid: { stroke: () => ink("--line"), width: 1 },
      ticks: { stroke: () => ink("--line"), width: 1 },
      font: "11px system-ui, sans-serif",
    };
    const plot = new uPlot(
      {
        width: Math.max(200, grid.clientWidth || 400),
        height: HEIGHT,
        legend: { live: true, markers: { width: 0, fill: (_, place) => colour((place - 1) % chart.series.length) } },
        cursor: {
          sync: { key: "curves", setSeries: false },
          drag: { x: true, y: false, setScale: false },
          focus: { prox: 24 },
          bind: { dblclick: () => () => (zoomTo(null), null) },
        },
        scales: {
          x: { time: false, range: (_, low, high) => zoom ?? (low === high ? [low - 1, high + 1] : [low, high]) },
          y: log ? { distr: 3 } : {},
        },
        axes: [
          { ...axisStyle, size: 32, values: (_, ticks) => ticks.map((tick) => number(tick)) },
          { ...axisStyle, size: 58, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
        ],
        series: [
          { label: axis, value: (_, value) => (value === null || value === undefined ? "–" : number(value)) },
          ...lines(false),
          ...(smoothing > 0 ? lines(true) : []),
        ],
        hooks: {
          draw: [drawMarks],
          setSelect: [
            (self) => {
              if (self.select.width < 4) return;
              const ends = [self.select.left, self.select.left + self.select.width];
              self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
              zoomTo(ends.map((end) => self.posToVal(end, "x")));
            },
          ],
        },
      },
      numbers(chart),
      frame,
    );
    legend(chart, plot, frame);
    explainEmpty(frame, plot);
    return { frame, plot, shape: shapeOf(chart) };
  }

  function explainEmpty(frame, plot) {
    const hint = frame.querySelector(".hint");
    hint.hidden = plot.data.slice(1).some((column) => column.some((value) => value !== null));
    setText(hint, log ? "No value is above zero, so a log scale shows none." : "No value is a finite number.");
  }

  /** Names in the legend hide and show their series, by mouse and keyboard, together with the unsmoothed one. */
  function legend(chart, plot, frame) {
    const rows = [...frame.querySelectorAll(".u-legend tr")].slice(1);
    rows.forEach((row, place) => {
      row.hidden = place >= chart.series.length;
      if (row.hidden) return;
      const name = chart.series[place].name;
      const key = `${chart.title} ${name}`;
      const head = row.querySelector("th");
      Object.entries({ role: "button", tabindex: 0, "aria-pressed": String(!hidden.has(key)), title: "hide or show" }).forEach(
        ([attribute, value]) => head.setAttribute(attribute, value),
      );
      const toggle = (event) => {
        event.stopImmediatePropagation(); // Before uPlot, which would hide only one of the two.
        event.preventDefault();
        if (!hidden.delete(key)) hidden.add(key);
        head.setAttribute("aria-pressed", String(!hidden.has(key)));
        for (let twin = place + 1; twin < plot.series.length; twin += chart.series.length)
          plot.setSeries(twin, { show: !hidden.has(key) });
      };
      head.addEventListener("click", toggle, true);
      head.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && toggle(event));
    });
  }

  function shapeOf(chart) {
    return JSON.stringify([axis, log, smoothing > 0, chart.series.map(({ name }) => name)]);
  }

  function draw() {
    for (const [title, { frame, plot }] of charts)
      if (!wanted.some((chart) => chart.title === title)) {
        plot.destroy();
        frame.remove();
        charts.delete(title);
      }
    for (const chart of wanted) {
      const known = charts.get(chart.title);
      if (known?.shape === shapeOf(chart)) {
        known.plot.setData(numbers(chart));
        explainEmpty(known.frame, known.plot);
        continue;
      }
      const built = build(chart);
      if (known) {
        known.plot.destroy();
        known.frame.replaceWith(built.frame);
      } else grid.append(built.frame);
      charts.set(chart.title, built);
    }
    fit();
  }

  function rebuild() {
    draw();
    showZoom();
  }

  function fit() {
    for (const { frame, plot } of charts.values()) {
      const width = Math.floor(frame.clientWidth);
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }

  new ResizeObserver(fit).observe(grid);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { plot } of charts.values()) plot.redraw(false, true);
  });
  rebuild();

  return {
    mark(now) {
      marks = now;
      const listed = marks.filter((mark) => mark.listed !== false);
      noted.hidden = !listed.length;
      noted.replaceChildren(...listed.map(({ step, text }) => make("li", {}, `from step ${number(step)}: ${text.replaceAll("\n", ", ")}`)));
    },
    show(now) {
      wanted = now.filter(({ series }) => series.length > 0);
      draw();
    },
    /** The visible part of the axis; null for all of it. */
    get zoom() {
      return zoom;
    },
  };
};
