// The page of results: many images, a few at a time, filtered, sorted, compared and enlarged.
"use strict";

(async () => {
  const { load, make, choice, setText, number, tile, beforeAndAfter, enlarge } = gantrain;
  const ROWS = 48; // Rows per page if a row has several images.
  const SINGLES = 240; // Rows per page if a row has one image.
  const OF_A_CLASS = 40; // Images in the row of a class.
  const SMALL = 128; // Pixels; smaller images are enlarged without smoothing.
  const [NAME, IMAGES, SIZE, METRICS, LABEL] = [0, 1, 2, 3, 4]; // Columns of a row.

  const { results } = await load("results");
  // Another test may have written other images with the same names, and browsers cache the old ones.
  const addressOf = (url) => `${url}?${results.written}`;

  // ---- one image

  function image(table, row, kind, lazy) {
    const [width, height] = row[SIZE];
    return make("img", {
      src: addressOf(row[IMAGES][kind]), alt: `${table.kinds[kind]} of ${row[NAME]}`, width, height,
      loading: lazy ? "lazy" : null, decoding: lazy ? "async" : null, draggable: "false",
      class: Math.max(width, height) <= SMALL ? "small" : null,
    });
  }

  function comparison(table, row, view, lazy) {
    const [before, after] = [view.before, view.after].map((kind) => image(table, row, kind, lazy));
    const [width, height] = row[SIZE];
    const frame = beforeAndAfter(before, after);
    for (const each of frame.querySelectorAll("img")) each.classList.toggle("small", Math.max(width, height) <= SMALL);
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.setProperty("--ratio", width / height);
    return frame;
  }

  function metricsText(table, row) {
    return table.metrics
      .map(([name], place) => [name, row[METRICS][place]])
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name} ${number(value)}${name === "PSNR" && Number.isFinite(value) ? " dB" : ""}`)
      .join(" · ");
  }

  // ---- one table

  function build(place, table) {
    const several = table.kinds.length > 1;
    const labels = [...new Set(table.rows.map((row) => row[LABEL]))].filter((label) => label !== null);
    const size = several ? ROWS : SINGLES;
    const made = Math.max(0, table.kinds.findIndex((kind) => kind.startsWith("fake")));
    const view = {
      words: "", label: "", order: "given", page: 0, how: labels.length > 1 ? "classes" : "side",
      before: made === 0 ? 1 : 0, after: made, width: several ? 9 : 5,
    };
    let chosen = table.rows;

    const search = make("input", { type: "search", oninput: () => change({ words: search.value.toLowerCase() }) });
    const orders = [["given", "as given"], ["name", "name"]];
    table.metrics.forEach(([name, better], column) => {
      orders.push([`${column} best`, `${name}, best first`], [`${column} worst`, `${name}, worst first`]);
    });
    const kinds = table.kinds.map((kind, column) => [column, kind]);
    const pair = several
      ? ["before", "after"].map((end) => {
          const label = choice(end, kinds, (column) => change({ [end]: Number(column) }, { stay: true }));
          label.lastChild.value = view[end];
          return label;
        })
      : [];
    const hows = several ? [["side", "side by side"], ["slider", "before and after"]] : labels.length > 1 ? [["classes", "a row per class"], ["side", "all"]] : [];
    const width = make("input", { type: "range", min: 3, max: 24, step: 0.5, value: view.width, oninput: () => list.style.setProperty("--width", `${width.value}rem`) });
    const count = make("span", { class: "hint", role: "status" });
    const list = make("div", { class: "cards" });
    list.style.setProperty("--width", `${view.width}rem`);
    list.style.setProperty("--kinds", table.kinds.length);
    const pagers = [pager(), pager()];
    place.append(
      make(
        "div",
        { class: "controls" },
        make("label", { class: "wide" }, make("span", {}, "name"), search),
        labels.length > 1 ? choice("class", [["", "all"], ...labels.map((label) => [label, label])], (label) => change({ label })) : null,
        several || table.metrics.length ? choice("sort", orders, (order) => change({ order })) : null,
        hows.length ? choice("show", hows, (how) => change({ how }, { stay: true })) : null,
        ...pair,
        make("label", {}, make("span", {}, "size"), width),
        count,
      ),
      pagers[0].element,
      list,
      pagers[1].element,
    );

    function pager() {
      const go = (page) => change({ page }, { stay: true });
      const button = (text, label, to) => make("button", { type: "button", "aria-label": label, onclick: () => go(to()) }, text);
      const previous = button("←", "previous page", () => view.page - 1);
      const next = button("→", "next page", () => view.page + 1);
      const select = make("select", { onchange: () => go(Number(select.value)) });
      const element = make("div", { class: "controls pager" }, previous, make("label", {}, make("span", {}, "page"), select), next);
      return {
        element,
        show(pages) {
          element.hidden = pages < 2 || view.how === "classes";
          if (select.options.length !== pages)
            select.replaceChildren(...Array.from({ length: pages }, (_, page) => make("option", { value: page }, `${page + 1} of ${pages}`)));
          select.value = view.page;
          previous.disabled = view.page === 0;
          next.disabled = view.page >= pages - 1;
        },
      };
    }

    function change(changes, { stay = false } = {}) {
      Object.assign(view, changes);
      if (!stay) {
        view.page = 0;
        choose();
      }
      show();
    }

    function choose() {
      chosen = table.rows.filter((row) => row[NAME].toLowerCase().includes(view.words) && (!view.label || row[LABEL] === view.label));
      if (view.order === "name") chosen.sort((one, other) => one[NAME].localeCompare(other[NAME], undefined, { numeric: true }));
      else if (view.order !== "given") {
        const [column, end] = view.order.split(" ");
        const sign = (table.metrics[column][1] === "lower") === (end === "best") ? 1 : -1;
        const value = (row) => row[METRICS][column];
        // Rows without the metric come last in both orders.
        chosen.sort((one, other) => (value(one) === null) - (value(other) === null) || (value(one) === value(other) ? 0 : sign * (value(one) - value(other))));
      }
    }

    function show() {
      const pages = Math.max(1, Math.ceil(chosen.length / size));
      view.page = Math.min(Math.max(0, view.page), pages - 1);
      const all = table.rows.length.toLocaleString("en");
      setText(count, chosen.length === table.rows.length ? `${all} images` : `${chosen.length.toLocaleString("en")} of ${all} images`);
      for (const label of pair) label.hidden = view.how !== "slider";
      for (const { show: showPager } of pagers) showPager(pages);
      list.dataset.how = view.how;
      if (view.how === "classes") list.replaceChildren(...classes());
      else {
        const first = view.page * size;
        list.replaceChildren(...chosen.slice(first, first + size).map((row, offset) => card(row, first + offset)));
      }
    }

    function opener(index, content, label) {
      return make("button", { type: "button", class: "plain image", "data-index": index, "aria-label": `enlarge ${label}`, onclick: () => large(index) }, content);
    }

    function card(row, index) {
      if (!several) return make("figure", { class: "single", title: row[NAME] }, opener(index, image(table, row, 0, true), row[NAME]));
      const shown =
        view.how === "slider"
          ? [make("div", {}, comparison(table, row, view, true), make("button", { type: "button", class: "plain enlarge", "data-index": index, onclick: () => large(index), "aria-label": `enlarge ${row[NAME]}` }, "⤢"))]
          : table.kinds.map((kind, column) =>
              row[IMAGES][column] === null
                ? make("div", {})
                : make("figure", {}, make("figcaption", {}, kind), opener(index, image(table, row, column, true), `${kind} of ${row[NAME]}`)));
      return make(
        "article",
        { class: "card" },
        make("div", { class: "kinds" }, ...shown),
        make("p", { class: "name" }, row[NAME]),
        table.metrics.length ? make("p", { class: "hint" }, metricsText(table, row)) : null,
      );
    }

    function classes() {
      const indices = new Map(chosen.map((row, index) => [row, index]));
      return labels
        .map((label) => [label, chosen.filter((row) => row[LABEL] === label)])
        .filter(([, rows]) => rows.length)
        .map(([label, rows]) =>
          make(
            "div",
            { class: "class" },
            make("h3", {}, label, make("span", { class: "hint" }, ` ${rows.length.toLocaleString("en")}`)),
            make("div", { class: "scroll row" }, ...rows.slice(0, OF_A_CLASS).map((row) => card(row, indices.get(row)))),
          ));
    }

    function large(start) {
      const rows = chosen;
      const current = { ...view };
      const sliding = make("button", { type: "button", onclick: () => ((current.how = current.how === "slider" ? "side" : "slider"), dialog.again()) });
      const dialog = enlarge({
        count: rows.length,
        start,
        tools: several ? [sliding] : [],
        show: (index) => {
          const row = rows[index];
          setText(sliding, current.how === "slider" ? "side by side" : "before and after");
          for (const near of [rows[index - 1], rows[index + 1]]) if (near) for (const url of near[IMAGES]) if (url) new Image().src = addressOf(url);
          const content =
            several && current.how === "slider"
              ? comparison(table, row, current, false)
              : make("div", { class: "side" }, ...table.kinds.map((kind, column) => row[IMAGES][column] === null ? null : make("figure", {}, make("figcaption", {}, kind), image(table, row, column, false))));
          const metrics = metricsText(table, row);
          const title = [row[NAME], row[LABEL] === null ? null : `class ${row[LABEL]}`, metrics].filter(Boolean).join(" · ");
          return { title: `${title} (${(index + 1).toLocaleString("en")} of ${rows.length.toLocaleString("en")})`, content };
        },
        closed: (index) => {
          if (index === start) return; // The browser focuses it by itself.
          const page = Math.floor(index / size);
          if (view.how !== "classes" && page !== view.page) change({ page }, { stay: true });
          list.querySelector(`[data-index="${index}"]`)?.focus();
        },
      });
    }

    show();
  }

  for (const place of document.querySelectorAll("[data-table]")) build(place, results.tables[Number(place.dataset.table)]);

  // ---- interpolations

  if (results.interpolation) {
    const interpolation = { ...results.interpolation, url: addressOf(results.interpolation.url) };
    const place = document.getElementById("interpolation");
    const slider = make("input", { type: "range", min: 0, max: interpolation.columns - 1, step: 1, value: 0, oninput: () => go() });
    const rows = Array.from({ length: interpolation.rows }, (_, row) => ({
      now: make("div", { class: "now" }),
      strip: make("div", { class: "strip" }, ...Array.from({ length: interpolation.columns }, (_unused, column) => tile(interpolation, column, row, `row ${row + 1}, image ${column + 1}`))),
    }));
    const go = () => {
      const column = Number(slider.value);
      rows.forEach(({ now, strip }, row) => {
        now.replaceChildren(tile(interpolation, column, row, `row ${row + 1} at ${column + 1} of ${interpolation.columns}`));
        [...strip.children].forEach((child, index) => child.classList.toggle("here", index === column));
      });
    };
    place.classList.toggle("small", Math.max(interpolation.width, interpolation.height) <= SMALL);
    place.append(
      make("div", { class: "controls" }, make("label", { class: "wide" }, make("span", {}, "position"), slider)),
      ...rows.map(({ now, strip }) => make("div", { class: "way" }, now, strip)),
    );
    go();
  }

  // ---- grids

  const grids = [...document.querySelectorAll(".grids button")];
  grids.forEach((button, start) => {
    button.onclick = () =>
      enlarge({
        count: grids.length,
        start,
        show: (index) => {
          const { src, alt } = grids[index].querySelector("img");
          return { title: alt, content: make("img", { src, alt, class: "small whole" }) };
        },
        closed: (index) => grids[index].focus(),
      });
  });
})();
