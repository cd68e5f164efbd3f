// What a page of the report does beyond standing still: charts that answer the pointer, tables that sort and filter.
(() => {
  "use strict";
  const options = { actions: false, renderer: "svg", ast: true, defaultStyle: false, mode: "vega-lite",
    tooltip: { disableDefaultStyle: true }, logLevel: 1 };

  // A chart is drawn anew at its own width once it is about to be seen; without a script the picture stays.
  const columns = (figure) => {  // of its legend
    const room = (figure.querySelector(".drawing").clientWidth - 50) / (26 + 7 * Number(figure.dataset.legend));
    return Math.min(Math.max(Math.floor(room), 1), 4);
  };
  const liven = async (figure) => {
    const place = figure.querySelector(".drawing");
    const specification = JSON.parse(figure.querySelector("script.spec").textContent);
    specification.width = "container";
    delete specification.autosize;
    specification.config.legend.columns = columns(figure);
    figure.dataset.columns = columns(figure);
    const drawn = document.createElement("div");
    drawn.className = "live";
    place.prepend(drawn);
    try {
      await window.draw(drawn, specification, options);
      drawn.removeAttribute("role");  // the place has role and label; what it holds is one picture
      drawn.removeAttribute("aria-label");
      drawn.querySelector("svg").setAttribute("aria-hidden", "true");
      place.querySelectorAll(":scope > svg, .live + .live").forEach((before) => before.remove());
      place.classList.add("drawn");
    } catch (error) {
      drawn.remove();
      console.error(error);
    }
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); liven(entry.target); }
  }, { rootMargin: "300px" });
  const figures = document.querySelectorAll("figure.chart");
  figures.forEach((figure) => seen.observe(figure));
  let waiting;
  addEventListener("resize", () => {  // Vega fits the width; a legend that has room for other columns is drawn again
    clearTimeout(waiting);
    waiting = setTimeout(() => figures.forEach((figure) => {
      const isOther = figure.dataset.columns && Number(figure.dataset.columns) !== columns(figure);
      if (isOther && figure.querySelector(".drawing").clientWidth) liven(figure);
    }), 200);
  });

  // Tables: a head's button sorts, the field above filters by name, the boxes by group.
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  const sort = (table, head) => {
    const column = head.cellIndex, isNumber = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : isNumber;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row, place) => ({ row, place, at: value(row, column) }));
    rows.sort((a, b) => {
      const missing = Number.isNaN(a.at) || Number.isNaN(b.at);
      return (missing ? compare(a.at, b.at) : (down ? -1 : 1) * compare(a.at, b.at)) || a.place - b.place;
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head));
    }
  });
  document.querySelectorAll("form.filter").forEach((form) => {
    const table = document.getElementById(form.dataset.table), said = form.querySelector("output");
    const filter = () => {
      const text = form.elements.text.value.trim().toLowerCase(), group = form.elements.group.value;
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const fits = row.cells[0].textContent.toLowerCase().includes(text) && (!group || row.dataset.group === group);
        row.hidden = !fits;
        shown += fits;
      }
      said.textContent = `${shown.toLocaleString("en")} of ${table.tBodies[0].rows.length.toLocaleString("en")}`;
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  });

  // One predictor after another in the table of behaviors.
  const choice = document.getElementById("behaviors-of");
  if (choice) {
    const { models, names } = JSON.parse(document.getElementById("behaviors-data").textContent);
    const table = document.getElementById("behaviors-table");
    const number = (cell, given) => {
      cell.dataset.value = given === null ? "NaN" : given;
      cell.textContent = given === null ? "–" : given.toFixed(3);
      cell.style.setProperty("--share", `${100 * (given ?? 0)}%`);
    };
    choice.addEventListener("change", () => {
      const found = models[Number(choice.value)];
      for (const row of table.tBodies[0].rows) {
        const [recall, precision, confused] = found[Number(row.dataset.place)];
        number(row.cells[3], recall);
        number(row.cells[4], precision);
        row.cells[5].replaceChildren();
        confused.forEach(([behavior, times], place) => {
          const name = document.createElement("bdi");
          name.textContent = names[behavior];
          row.cells[5].append(place ? ", " : "", name, ` ${times}`);
        });
      }
    });
  }

  // Folded parts are printed, and a link into one opens it.
  const open = () => document.querySelector(location.hash || "#none")?.closest("details")?.setAttribute("open", "");
  addEventListener("hashchange", open);
  if (/^#[\w-]+$/.test(location.hash)) open();
  addEventListener("beforeprint", () => document.querySelectorAll("details.printed").forEach((part) => { part.open = true; }));
})();
