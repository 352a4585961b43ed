// Code shared by all pages. A page opened from disk may not fetch, but it may run scripts: data files are scripts that
// call gantrain.data or gantrain.line, and gantrain.load returns what they passed.
"use strict";

const gantrain = (() => {
  // ---- data

  const OLD_TABLES = { pictures: "images", figures: "metrics" }; // Names in the logs of earlier versions.

  function data(name, value) {
    document.currentScript.received[name] = value;
  }

  function line(table, value) {
    (document.currentScript.received[OLD_TABLES[table] ?? table] ??= []).push(value);
  }

  /**
   * The contents of a data file of this page; never of another one, which somebody else may have written. Browsers may
   * cache files for a time that they guess from their age, so a file that may have changed needs another `key`.
   */
  function load(name, { key = Date.now() } = {}) {
    const url = `./index_files/data/${name}.js`;
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.received = {};
      script.onload = () => {
        script.remove();
        resolve(script.received);
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`can't read ${url}`));
      };
      script.src = `${url}?${key}`;
      document.head.append(script);
    });
  }

  // ---- elements

  /** An element. `on...` attributes are listeners; null and false ones are left out. Children are elements or text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  /** A labelled <select>; `options` are [value, text]. */
  function choice(label, options, onchange) {
    const select = make("select", { onchange: () => onchange(select.value) });
    for (const [value, text] of options) select.append(make("option", { value }, text));
    return make("label", {}, make("span", {}, label), select);
  }

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  /** The name of a metric, with its scale where that is not obvious. */
  const labelOf = (name) => (/(^|_)l1$/.test(name) ? `${name} (values in [0, 1])` : name);

  /** Facts as <dt> and <dd>, updated in place. */
  function setFacts(list, facts) {
    const known = new Map([...list.children].map((row) => [row.querySelector("dt").textContent, row]));
    for (const [key, row] of known) row.hidden = !(key in facts);
    for (const [key, value] of Object.entries(facts)) {
      const row = known.get(key) ?? make("div", {}, make("dt", {}, key), make("dd", {}));
      if (!row.parentNode) list.append(row);
      row.hidden = value === null || value === undefined;
      setText(row.querySelector("dd"), row.hidden ? "" : value);
    }
  }

  // ---- text

  function number(value) {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
  }

  function duration(seconds) {
    const total = Math.max(0, Math.round(seconds));
    if (total < 60) return `${total} s`;
    const minutes = Math.round(total / 60);
    if (minutes < 60) return total < 600 ? `${Math.floor(total / 60)} min ${total % 60} s` : `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  function moment(seconds) {
    return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }

  // ---- runs

  // A run updates its status every few seconds. One that has not done so for SILENT seconds, and for SILENCES times its
  // longest pause so far, was probably killed.
  const SILENT = 120;
  const SILENCES = 5;

  /** "running", "done", "stopped", "crashed", or "silent" for a run that is marked as running but has no recent update. */
  function stateOf(status) {
    const age = Date.now() / 1000 - status.time;
    const silent = age > Math.max(SILENT, SILENCES * (status.silence ?? 0));
    return status.state === "running" && silent ? "silent" : status.state;
  }

  /** The seconds that a run has trained for in this session. */
  const secondsOf = (status) => status.time - status.opened - (status.paused ?? 0);

  /** The seconds until its end at the speed of this session; not finite if that is not known yet. */
  const secondsLeft = (status) => ((status.total - status.done) * secondsOf(status)) / (status.done - status.begun);

  function pill(element, status) {
    const state = stateOf(status);
    element.dataset.state = state;
    setText(element, state === "silent" ? `no update since ${moment(status.time)}` : state);
  }

  // ---- tables

  /** A click on a heading sorts by its column: by `data-value` of its cells where they have one. */
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", class: "plain" }, ...head.childNodes);
      head.append(button);
      button.onclick = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const compare = (one, other) => {
          if (one === "" || other === "") return (one === "") - (other === ""); // Missing values come last in both orders.
          const difference = Number(one) - Number(other);
          const order = Number.isNaN(difference) ? one.localeCompare(other, undefined, { numeric: true }) : difference;
          return down ? -order : order;
        };
        const rows = [...table.tBodies[0].rows];
        table.tBodies[0].append(...rows.sort((one, other) => compare(key(one), key(other))));
      };
    });
  }

  // ---- images

  /** Width and height of a whole grid, see `grid` in gantrain/report/images.py; null if its layout is not known. */
  function sizeOf({ columns, rows, width, height, gap }) {
    return rows ? [columns * (width + gap) + gap, rows * (height + gap) + gap] : null;
  }

  /** Reserve the space of an image before it is loaded. */
  function setSize(image, size) {
    ["width", "height"].forEach((side, place) => (size ? image.setAttribute(side, size[place]) : image.removeAttribute(side)));
  }

  /** The image at `column`, `row` of a grid. */
  function tile(grid, column, row, alt) {
    const { url, width, height, gap } = grid;
    const whole = sizeOf(grid);
    const place = [gap + column * (width + gap), gap + row * (height + gap)];
    const image = make("img", { src: url, alt, loading: "lazy", draggable: "false" });
    image.style.width = `${(100 * whole[0]) / width}%`;
    image.style.height = `${(100 * whole[1]) / height}%`;
    image.style.left = `${(-100 * place[0]) / width}%`;
    image.style.top = `${(-100 * place[1]) / height}%`;
    const frame = make("div", { class: "tile" }, image);
    frame.style.aspectRatio = `${width} / ${height}`;
    return frame;
  }

  /** Two images on top of each other, and a line between them that can be dragged. */
  function beforeAndAfter(before, after) {
    const slider = make("input", {
      type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": `from ${before.alt} to ${after.alt}`,
      oninput: () => frame.style.setProperty("--cut", `${slider.value}%`),
    });
    const frame = make(
      "div",
      { class: "compare" },
      make("img", { src: after.src, alt: after.alt, draggable: "false" }),
      make("img", { src: before.src, alt: before.alt, class: "over", draggable: "false" }),
      make("span", { class: "cut", "aria-hidden": "true" }),
      slider,
    );
    return frame;
  }

  let dialog = null;

  /**
   * Show one of `count` items enlarged; the arrow keys show the others, Escape closes it.
   * `show(index)` returns {title, content}; `tools` are more buttons; `closed(index)` gets the last item shown.
   * Returns {again}, which shows the current item again.
   */
  function enlarge({ count, start, show, tools = [], closed = () => {} }) {
    let index = start;
    if (!dialog) {
      dialog = make("dialog", { class: "large", "aria-label": "enlarged" });
      document.body.append(dialog);
    }
    const title = make("p", { class: "title", "aria-live": "polite" });
    const stage = make("div", { class: "stage", tabindex: -1, autofocus: true });
    const go = (place) => {
      index = Math.min(count - 1, Math.max(0, place));
      const shown = show(index);
      setText(title, shown.title);
      stage.replaceChildren(shown.content);
      previous.disabled = index === 0;
      next.disabled = index === count - 1;
    };
    const button = (label, text, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
    const previous = button("previous", "←", () => go(index - 1));
    const next = button("next", "→", () => go(index + 1));
    const end = button("close", "✕", () => dialog.close());
    dialog.replaceChildren(make("div", { class: "bar" }, title, ...tools, previous, next, end), stage);
    const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, PageUp: -10, PageDown: 10 };
    dialog.onkeydown = (event) => {
      if (event.target.matches("input, select")) return; // They use these keys themselves.
      const places = { Home: 0, End: count - 1 };
      const place = places[event.key] ?? (event.key in steps ? index + steps[event.key] : null);
      if (place === null) return;
      event.preventDefault();
      go(place);
    };
    dialog.onclick = (event) => event.target === dialog && dialog.close();
    dialog.onclose = () => closed(index);
    go(start);
    dialog.showModal();
    return { again: () => go(index) };
  }

  return {
    data, line, load, make, choice, setText, labelOf, setFacts, number, duration, moment, stateOf, secondsOf, secondsLeft, pill, sortable, sizeOf, setSize,
    tile, beforeAndAfter, enlarge,
  };
})();
