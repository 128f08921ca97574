"use strict";
// What the page shows is in one block of JSON. Texts from it (labels, file names) become text
// nodes and attributes of elements, never markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const count = (number) => number.toLocaleString("en");

  const FIRST_SCREEN = 100; // cards
  const UNDECIDED = 0, CONFIRMED = 1, CLEARED = 2;
  const WORDS = ["undecided", "confirmed", "cleared"];
  const STORE = `antibackdoor-decisions-${data.key}`;
  const decisions = new Uint8Array(data.rows.length);
  const cards = [];
  let shown = []; // numbers of the cards that pass the filters, in their order
  let current = 0; // the one card that the Tab key comes to
  let zoomed = 0; // the card that is shown large
  let unsaved = false; // whether closing the page would lose decisions

  function make(tag, settings = {}, ...children) {
    const element = document.createElement(tag);
    Object.assign(element, settings);
    element.append(...children);
    return element;
  }

  // A name may be written from right to left: it must not turn what stands beside it around.
  const isolated = (text) => make("bdi", { textContent: text });

  const shortened = (value, digits = 4) => Number(value.toPrecision(digits));

  // ---- What was found

  function showVerdict() {
    byId("headline").textContent = data.headline;
    for (const remark of data.remarks) {
      byId("remarks").append(make("li", { textContent: remark }));
    }
    if (!data.classes.length) return;
    byId("classes").hidden = false;
    const signs = [...new Set(data.classes.flatMap((found) => Object.keys(found.signs)))];
    const signNames = signs.map((sign) => sign.replaceAll("_", " "));
    for (const head of ["class", "rows", "flagged", "share", ...signNames]) {
      byId("classes-head").append(make("th", { scope: "col", textContent: head }));
    }
    byId("signs-note").hidden = !signs.length;
    for (const found of data.classes) {
      const share = `${((100 * found.n_flagged) / found.n_rows).toFixed(1)} %`;
      const cells = [count(found.n_rows), count(found.n_flagged), share];
      cells.push(...signs.map((sign) => found.signs[sign]?.toFixed(2) ?? "–"));
      const line = make("tr", {}, make("td", {}, isolated(found.label)));
      const names = ["rows", "flagged", "share", ...signNames];
      line.append(
        ...cells.map((cell, place) => {
          const element = make("td", { textContent: cell });
          element.dataset.name = names[place]; // on a phone the heads are not there
          return element;
        }),
      );
      byId("classes-body").append(line);
    }
  }

  function showFacts() {
    for (const [name, value] of Object.entries(data.facts)) {
      byId("facts").append(make("dt", { textContent: name }), make("dd", {}, isolated(value)));
    }
  }

  // ---- A class: what is flagged in it beside what is not

  function showPairs() {
    byId("pairs").hidden = !data.pairs.length;
    for (const pair of data.pairs) {
      const averages = pair.averages.map(({ uri, caption }) => enlarged(uri, caption, 96));
      const others = make("div", { className: "strip" }, enlarged(pair.others, pair.caption));
      byId("pairs").append(
        make("h3", {}, "Class ", isolated(pair.label)),
        make("div", { className: "averages" }, ...averages),
        others,
      );
    }
  }

  function enlarged(uri, caption, least = 0) {
    const image = make("img", { src: uri, alt: caption, className: "sharp" });
    image.addEventListener("load", () => {
      const times = Math.max(1, Math.floor(least / image.naturalWidth), least ? 1 : pairScale());
      image.style.width = `${image.naturalWidth * times}px`;
    });
    return make("figure", {}, image, make("figcaption", { textContent: caption }));
  }

  // Images of a strip are about as large as those to be decided about.
  const pairScale = () => Math.max(1, Math.round(64 / sheets.width));

  // ---- The histogram, on a logarithmic axis: few rows beside many must be seen

  function draw(tag, attributes, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    byId("histogram").append(element);
  }

  function showHistogram() {
    const { edges, flagged, others, threshold } = data.histogram;
    const left = 46, right = 472, top = 10, bottom = 170;
    const low = edges[0], span = edges.at(-1) - low || 1;
    const most = Math.max(...flagged.map((number, bin) => number + others[bin]));
    const decades = Math.max(1, Math.ceil(Math.log10(most)));
    // Beside scores up to 1, one of a millionth is nought to whoever reads the axis.
    const axisLabel = (value) => String(Math.abs(value) < span / 1000 ? 0 : shortened(value, 3));
    const x = (value) => left + ((right - left) * (value - low)) / span;
    // One row stands out from the axis, and no row does not.
    const y = (number) => {
      const height = number ? (0.15 + Math.log10(number)) / (0.15 + decades) : 0;
      return bottom - (bottom - top) * height;
    };
    for (let decade = 0; decade <= decades; decade += Math.ceil(decades / 4)) {
      const at = y(10 ** decade);
      draw("line", { class: "axis", x1: left, x2: right, y1: at, y2: at });
      draw("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, count(10 ** decade));
    }
    for (let bin = 0; bin < flagged.length; bin++) {
      const kind = flagged[bin] ? "flagged" : "others";
      const at = y(flagged[bin] + others[bin]);
      const width = Math.max(1, x(edges[bin + 1]) - x(edges[bin]) - 1);
      draw("rect", { class: kind, x: x(edges[bin]), y: at, width, height: bottom - at });
    }
    draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
    for (const [value, anchor] of [[low, "start"], [edges.at(-1), "end"]]) {
      draw("text", { x: x(value), y: bottom + 16, "text-anchor": anchor }, axisLabel(value));
    }
    draw("text", { x: (left + right) / 2, y: bottom + 16, "text-anchor": "middle" }, "suspicion score");
    const cut = threshold !== null && threshold >= low && threshold <= edges.at(-1);
    if (cut) draw("line", { class: "cut", x1: x(threshold), x2: x(threshold), y1: top, y2: bottom });

    const rest = data.n_samples - data.n_flagged;
    byId("key-others").textContent = `${count(rest)} other rows`;
    byId("key-flagged").textContent = `${count(data.n_flagged)} flagged rows`;
    byId("key-threshold").textContent = cut ? `threshold ${shortened(threshold)}` : "";
    byId("key-flagged").hidden = !data.n_flagged;
    byId("key-threshold").hidden = !cut;
    byId("histogram").setAttribute(
      "aria-label",
      `Histogram of the suspicion scores, from ${shortened(low, 3)} to ${shortened(edges.at(-1), 3)}: ` +
        `${count(rest)} other rows` +
        (data.n_flagged
          ? `, and ${count(data.n_flagged)} flagged rows above ${shortened(threshold)}.`
          : "."),
    );
  }

  // ---- Pictures: tiles on sheets, shown through a window as large as one tile

  const sheets = data.sheets;
  const sheetStyle = new CSSStyleSheet();
  const sheetsInUse = new Set();

  function useSheet(number) {
    if (sheetsInUse.has(number)) return;
    sheetsInUse.add(number);
    sheetStyle.insertRule(`.sheet-${number} { background-image: url("${sheets.uris[number]}"); }`);
  }

  function prepareSheets() {
    if (!sheets) return;
    document.adoptedStyleSheets = [sheetStyle];
    // Small images are enlarged by a whole number, so that their pixels stay square.
    const times = Math.max(1, Math.round(96 / sheets.width));
    const side = Math.min(160, sheets.width * times);
    document.documentElement.style.setProperty("--side", `${side}px`);
    if (sheets.width < sheets.full_width) {
      byId("shrunk").hidden = false;
      byId("shrunk").textContent =
        `The images are shown with ${sheets.width} x ${sheets.height} of their ` +
        `${sheets.full_width} x ${sheets.full_height} pixels: a small trigger may be lost.`;
    }
  }

  function tileOf(number) {
    const sheet = Math.floor(number / sheets.per_sheet);
    const place = number % sheets.per_sheet;
    const tiles = Math.min(sheets.per_sheet, data.rows.length - sheet * sheets.per_sheet);
    const lines = Math.ceil(tiles / sheets.columns);
    return { sheet, column: place % sheets.columns, line: Math.floor(place / sheets.columns), lines };
  }

  function paint(element, number) {
    const { sheet, column, line, lines } = tileOf(number);
    useSheet(sheet);
    element.className = `picture sheet-${sheet}${sheets.width < 96 ? " sharp" : ""}`;
    element.style.aspectRatio = `${sheets.width} / ${sheets.height}`;
    element.style.backgroundSize = `${100 * sheets.columns}% ${100 * lines}%`;
    const across = sheets.columns > 1 ? (100 * column) / (sheets.columns - 1) : 0;
    const down = lines > 1 ? (100 * line) / (lines - 1) : 0;
    element.style.backgroundPosition = `${across}% ${down}%`;
  }

  function listValues(values, features) {
    const body = make("tbody");
    values.forEach((value, place) => {
      const head = make("th", { scope: "row" }, isolated(features[place]));
      body.append(make("tr", {}, head, make("td", { textContent: value })));
    });
    return make("table", { className: "values" }, body);
  }

  function picture(number, atMost = Infinity) {
    if (sheets) {
      const element = make("span");
      paint(element, number);
      return element;
    }
    return listValues(data.table.values[number].slice(0, atMost), data.table.features);
  }

  // ---- The cards

  const labelOf = (number) => data.labels[data.codes[number]];
  const factsOf = (number) =>
    `Row ${data.rows[number]}, suspicion ${shortened(data.scores[number])}`;

  // Thousands of cards take a second to make. So all are there at once, but empty; those of the
  // first screen are filled at once, others when they come near the screen or there is time.
  function makeCards() {
    const template = byId("card").content.firstElementChild;
    for (let number = 0; number < data.rows.length; number++) {
      const card = template.cloneNode(false);
      card.dataset.number = number;
      cards.push(card);
    }
    cards.slice(0, FIRST_SCREEN).forEach((_, number) => fill(number));
    byId("grid").append(...cards);
    const near = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) if (entry.isIntersecting) fill(Number(entry.target.dataset.number));
      },
      { rootMargin: "100% 0px" },
    );
    for (const card of cards) near.observe(card);
    const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 20));
    const fillFrom = (start) => {
      const end = Math.min(start + 100, cards.length);
      for (let number = start; number < end; number++) fill(number);
      if (end < cards.length) later(() => fillFrom(end));
      else document.documentElement.dataset.complete = "yes";
    };
    later(() => fillFrom(FIRST_SCREEN));
  }

  function fill(number) {
    const card = cards[number];
    if (card.firstElementChild) return;
    card.append(...byId("card").content.firstElementChild.cloneNode(true).children);
    const [button, facts, ticks] = card.children;
    button.replaceChildren(picture(number, 6));
    button.tabIndex = -1;
    facts.append(
      make("span", { className: "label" }, isolated(labelOf(number))),
      `row ${data.rows[number]}`,
      make("span", {
        className: "more",
        textContent: `suspicion ${shortened(data.scores[number])}`,
      }),
    );
    if (data.files) {
      facts.append(make("span", { className: "more" }, isolated(data.files[number])));
    }
    for (const box of ticks.querySelectorAll("input")) {
      box.tabIndex = -1;
      const word = box.className === "confirm" ? "Confirm" : "Clear";
      box.setAttribute("aria-label", `${word} row ${data.rows[number]}`);
    }
    nameTile(number);
  }

  function nameTile(number) {
    const name = data.files ? `, ${data.files[number]}` : "";
    cards[number].firstElementChild.setAttribute(
      "aria-label",
      `${factsOf(number)}, label ${labelOf(number)}${name}, ${WORDS[decisions[number]]}`,
    );
  }

  // ---- Decisions

  function decide(number, decision) {
    fill(number);
    decisions[number] = decision;
    const card = cards[number];
    card.classList.toggle("confirmed", decision === CONFIRMED);
    card.classList.toggle("cleared", decision === CLEARED);
    card.querySelector(".confirm").checked = decision === CONFIRMED;
    card.querySelector(".clear").checked = decision === CLEARED;
    nameTile(number);
  }

  // The browser keeps the decisions of each report; where it does not let a page keep anything,
  // they are lost with the page, and it asks before it is closed.
  function keep() {
    try {
      localStorage.setItem(STORE, decisions.join(""));
    } catch {
      unsaved = true;
    }
  }

  function takeUp() {
    let kept = null;
    try {
      kept = localStorage.getItem(STORE);
    } catch {
      return;
    }
    if (kept?.length !== decisions.length || /[^012]/.test(kept)) return;
    [...kept].forEach((digit, number) => {
      if (Number(digit)) decide(number, Number(digit));
    });
  }

  function tellStatus() {
    const numbers = [0, 0, 0];
    for (const decision of decisions) numbers[decision]++;
    byId("status").textContent =
      `${count(numbers[CONFIRMED])} confirmed, ${count(numbers[CLEARED])} cleared, ` +
      `${count(numbers[UNDECIDED])} undecided`;
  }

  function decideOne(number, decision) {
    decide(number, decision);
    keep();
    tellStatus();
    if (byId("zoom").open) tickZoom();
  }

  // What has been decided by hand stays.
  function decideShown(decision) {
    for (const number of shown) if (decisions[number] === UNDECIDED) decide(number, decision);
    keep();
    tellStatus();
  }

  // ---- Filters

  function fillFilter() {
    const numbers = new Array(data.labels.length).fill(0);
    data.codes.forEach((code) => numbers[code]++);
    const all = `all (${count(data.rows.length)})`;
    byId("class-filter").append(make("option", { value: "", textContent: all }));
    data.labels.forEach((label, code) => {
      const text = `${label} (${count(numbers[code])})`;
      byId("class-filter").append(make("option", { value: String(code), textContent: text }));
    });
  }

  // A decision does not take its card away at once: one would lose one's place.
  function filter() {
    const code = byId("class-filter").value, word = byId("decision-filter").value;
    shown = [];
    cards.forEach((card, number) => {
      const passes =
        (!code || String(data.codes[number]) === code) &&
        (!word || WORDS[decisions[number]] === word);
      card.hidden = !passes;
      if (passes) shown.push(number);
    });
    byId("empty").hidden = shown.length > 0;
    byId("average").textContent = `Average of the ${count(shown.length)} shown`;
    for (const id of ["average", "confirm-all", "clear-all"]) byId(id).disabled = !shown.length;
    byId("average-figure").hidden = true;
    if (shown.length) stopTabAt(shown.includes(current) ? current : shown[0]);
  }

  // ---- Moving about: the Tab key comes to one card, the arrow keys go on from there

  function stopTabAt(number) {
    for (const [at, index] of [[current, -1], [number, 0]]) {
      fill(at);
      for (const element of cards[at].querySelectorAll("button, input")) element.tabIndex = index;
    }
    current = number;
  }

  function goTo(number) {
    stopTabAt(number);
    cards[number].firstElementChild.focus({ preventScroll: true });
    cards[number].scrollIntoView({ block: "nearest" });
  }

  function stepOf(key) {
    const columns = getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length;
    return { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  }

  function neighbour(key) {
    if (key === "Home") return shown[0];
    if (key === "End") return shown.at(-1);
    const place = shown.indexOf(current) + stepOf(key);
    return shown[place] ?? current;
  }

  function onKey(event, move) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const decision = { c: CONFIRMED, x: CLEARED, u: UNDECIDED }[event.key.toLowerCase()];
    if (decision !== undefined) decideOne(current, decision);
    else if (["Home", "End"].includes(event.key) || stepOf(event.key)) move(neighbour(event.key));
    else return;
    event.preventDefault();
  }

  // ---- One row, large

  function tickZoom() {
    byId("zoom-confirm").checked = decisions[current] === CONFIRMED;
    byId("zoom-clear").checked = decisions[current] === CLEARED;
  }

  function zoom(number) {
    zoomed = number;
    stopTabAt(number);
    const place = shown.indexOf(number);
    byId("zoom-title").replaceChildren("Label ", isolated(labelOf(number)));
    byId("zoom-facts").replaceChildren(
      `${factsOf(number)}; ${count(place + 1)} of ${count(shown.length)}`,
    );
    if (data.files) byId("zoom-facts").append(make("br"), isolated(data.files[number]));
    const large = picture(number);
    if (sheets) {
      large.setAttribute("role", "img");
      large.setAttribute("aria-label", `Row ${data.rows[number]}`);
      const room = Math.min(0.8 * innerWidth, 0.55 * innerHeight, 512);
      const times = room / Math.max(sheets.width, sheets.height);
      large.style.width = `${sheets.width * (times > 1 ? Math.floor(times) : times)}px`;
    } else if (data.table.n_features > data.table.features.length) {
      const rest = data.table.n_features - data.table.features.length;
      byId("zoom-facts").append(make("br"), `${count(rest)} more features are not shown.`);
    }
    byId("zoom-picture").replaceChildren(large);
    tickZoom();
    if (!byId("zoom").open) byId("zoom").showModal();
  }

  // ---- The average: what the rows have in common, as a trigger

  async function average() {
    byId("average-caption").textContent = `Average of ${count(shown.length)} rows`;
    const result = sheets ? await averageImage() : averageValues();
    byId("average-picture").replaceChildren(result);
    byId("average-figure").hidden = false;
  }

  function averageValues() {
    const sums = data.table.features.map((_, place) =>
      shown.reduce((sum, number) => sum + data.table.values[number][place], 0),
    );
    return listValues(sums.map((sum) => shortened(sum / shown.length)), data.table.features);
  }

  async function averageImage() {
    const { width, height } = sheets;
    const sums = new Float64Array(4 * width * height);
    const wanted = shown; // the filter may change while images are decoded
    let pixels = null, loaded = -1, across = 0;
    for (const number of wanted) {
      const { sheet, column, line } = tileOf(number);
      if (sheet !== loaded) {
        pixels = await pixelsOf(sheets.uris[sheet]);
        loaded = sheet;
        across = 4 * sheets.columns * width;
      }
      for (let down = 0; down < height; down++) {
        const start = (line * height + down) * across + 4 * column * width;
        for (let at = 0; at < 4 * width; at++) sums[4 * width * down + at] += pixels[start + at];
      }
    }
    const canvas = make("canvas", { width, height, className: width < 96 ? "sharp" : "" });
    const mean = Uint8ClampedArray.from(sums, (sum) => sum / wanted.length);
    canvas.getContext("2d").putImageData(new ImageData(mean, width, height), 0, 0);
    canvas.style.width = `${width * Math.max(1, Math.floor(224 / width))}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Average of ${count(wanted.length)} images`);
    return canvas;
  }

  async function pixelsOf(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = make("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  }

  // ---- The decisions as CSV (RFC 4180)

  // A cell that begins like a formula would be computed by a spreadsheet: a quote stops it. The
  // rule is that of `safe_cell` in antibackdoor/utils/_csv.py: white space and what is invisible
  // is overlooked, and other spellings of a sign, such as the full-width one, count as the sign.
  // Numbers stay as they are; so does the row number, which is what to join by.
  const BLANK = /^[\p{Z}\p{C}\p{M}\u115f\u1160\u2800\u3164\uffa0]*/u;

  function mayBeFormula(text) {
    if (/^-?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?$/i.test(text)) return false;
    if (/^\p{Cc}/u.test(text)) return true;
    const [seen = ""] = text.replace(BLANK, "");
    return /^[=+\-@\u2212]/.test(seen.normalize("NFKC"));
  }

  function cell(value) {
    let text = String(value);
    if (mayBeFormula(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function download() {
    const heads = [...data.columns, ...(data.files ? ["file_name"] : [])];
    const flagged = Number(data.n_flagged > 0);
    const lines = data.rows.map((row, number) => {
      const line = `${number + 1} of ${data.rows.length}`;
      const cells = [line, row, labelOf(number), data.scores[number], flagged];
      cells.push(WORDS[decisions[number]], data.digests[number]);
      if (data.files) cells.push(data.files[number]);
      return cells.map(cell).join(",");
    });
    const text = [heads.join(","), ...lines].join("\r\n") + "\r\n";
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    make("a", { href: url, download: "decisions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    unsaved = false;
  }

  // ---- What happens when

  function listen() {
    const numberAt = (event) => Number(event.target.closest(".card")?.dataset.number ?? -1);
    const dialog = byId("zoom");
    byId("grid").addEventListener("click", (event) => {
      if (event.target.closest(".tile")) zoom(numberAt(event));
    });
    byId("grid").addEventListener("change", (event) => {
      const wanted = event.target.className === "confirm" ? CONFIRMED : CLEARED;
      decideOne(numberAt(event), event.target.checked ? wanted : UNDECIDED);
    });
    byId("grid").addEventListener("focusin", (event) => {
      if (numberAt(event) >= 0) stopTabAt(numberAt(event));
    });
    byId("grid").addEventListener("keydown", (event) => onKey(event, goTo));
    dialog.addEventListener("keydown", (event) => onKey(event, zoom));
    // The browser gives the focus back to the card that it came from: an older one perhaps.
    dialog.addEventListener("close", () => goTo(zoomed));
    // A click beside the dialog is one on the dialog element itself, on its backdrop.
    dialog.addEventListener("click", (event) => {
      const { left, right, top, bottom } = dialog.getBoundingClientRect();
      const inside =
        event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
      if (event.target === dialog && !inside) dialog.close();
    });
    for (const [id, decision] of [["zoom-confirm", CONFIRMED], ["zoom-clear", CLEARED]]) {
      byId(id).addEventListener("change", (event) => {
        decideOne(current, event.target.checked ? decision : UNDECIDED);
      });
    }
    byId("previous").addEventListener("click", () => zoom(neighbour("ArrowLeft")));
    byId("next").addEventListener("click", () => zoom(neighbour("ArrowRight")));
    byId("close").addEventListener("click", () => dialog.close());
    byId("class-filter").addEventListener("change", filter);
    byId("decision-filter").addEventListener("change", filter);
    byId("average").addEventListener("click", average);
    byId("confirm-all").addEventListener("click", () => decideShown(CONFIRMED));
    byId("clear-all").addEventListener("click", () => decideShown(CLEARED));
    byId("download").addEventListener("click", download);
    addEventListener("beforeunload", (event) => {
      if (unsaved) event.preventDefault();
    });
  }

  showVerdict();
  showHistogram();
  showFacts();
  showPairs();
  if (data.rows.length) {
    byId("review").hidden = false;
    byId("review-title").textContent = data.n_flagged ? "Flagged rows" : "Most suspect rows, not flagged";
    if (data.table) document.body.classList.add("tabular");
    prepareSheets();
    makeCards();
    fillFilter();
    takeUp();
    filter();
    tellStatus();
    listen();
  }
  document.documentElement.dataset.ready = "yes";
})();
