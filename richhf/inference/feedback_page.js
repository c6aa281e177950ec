(() => {
  const tools = document.querySelector(".tools");
  const cards = document.getElementById("cards");
  const count = document.getElementById("count");
  const given = [...cards.querySelectorAll(".example")];
  const prompts = given.map((card) => {
    const prompt = card.querySelector(".prompt").cloneNode(true);
    prompt.querySelectorAll("mark span").forEach((verdict) => verdict.remove());
    return prompt.textContent.toLowerCase();
  });
  const names = ["sort", "keep", "min", "max", "found", "text", "opacity"];
  const controls = names.map((name) => document.getElementById(name)).filter(Boolean);
  const defaults = Object.fromEntries(controls.map((control) => [control.id, control.value]));
  const value = (name) => document.getElementById(name)?.value ?? "";
  tools.hidden = false;

  const show = () => {
    const keep = value("keep");
    const text = value("text").toLowerCase();
    const wanted = value("found");
    const shown = given.filter((card, i) => {
      const score = Number(card.dataset[keep]);
      const found = card.dataset.found;
      card.hidden = !prompts[i].includes(text)
        || (wanted !== "" && !(wanted === "nothing" ? found === "" : found?.split(" ").includes(wanted)))
        || (keep !== "" && !(score >= Number(value("min")) && score <= Number(value("max"))));
      return !card.hidden;
    });
    const order = value("sort");
    const key = order.replace(/^-/, "");
    const sign = order.startsWith("-") ? -1 : 1;
    const sorted = [...given];
    if (key) sorted.sort((a, b) => sign * (Number(a.dataset[key] ?? 0) - Number(b.dataset[key] ?? 0)));
    cards.append(...sorted);
    count.textContent = shown.length === given.length
      ? `${given.length.toLocaleString("en")} shown`
      : `${shown.length.toLocaleString("en")} of ${given.length.toLocaleString("en")} shown`;
    if (value("opacity")) document.documentElement.style.setProperty("--opacity", value("opacity") / 100);
  };

  const remember = () => {
    const chosen = controls.filter((control) => control.value !== defaults[control.id]);
    const view = new URLSearchParams(chosen.map((control) => [control.id, control.value]));
    history.replaceState(null, "", view.size ? `#${view}` : location.pathname + location.search);
  };

  const recall = () => {
    const view = new URLSearchParams(location.hash.slice(1));
    controls.forEach((control) => {
      control.value = view.get(control.id) ?? defaults[control.id];
      if (control.selectedIndex === -1) control.value = defaults[control.id];
    });
    show();
  };

  // A cell that a spreadsheet would take for a formula is marked as text.
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    const text = /^[\s\u0000]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(value) ? `'${value}` : value;
    return /[",;\r\n\t]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const csv = document.getElementById("csv");
  csv.hidden = false;
  csv.addEventListener("click", () => {
    const rows = JSON.parse(document.getElementById("rows").textContent);
    const text = rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
    const link = document.createElement("a");
    // The mark in front tells spreadsheets that this is UTF-8.
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
    link.download = "feedback.csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });

  const large = document.createElement("dialog");
  large.className = "large";
  large.innerHTML = '<div class="view"></div><p class="about" aria-live="polite"></p><div class="choose">'
    + '<button type="button" value="-1">\u2190 Previous</button>'
    + '<button type="button" value="1">Next \u2192</button>'
    + '<button type="button" value="0">Close</button></div>';
  document.body.append(large);
  let current = null;

  const enlarge = (figure) => {
    const card = figure.closest(".example");
    const frame = figure.closest(".panels").cloneNode(false);
    const copy = figure.cloneNode(true);
    ["role", "tabindex", "aria-label", "aria-haspopup"].forEach((name) => copy.removeAttribute(name));
    frame.append(copy);
    current = figure;
    large.querySelector(".view").replaceChildren(frame);
    large.querySelector(".about").textContent = card.querySelector(".note")?.textContent ?? "";
    large.setAttribute("aria-label", figure.getAttribute("aria-label"));
    if (!large.open) large.showModal();
  };

  const step = (by) => {
    const figures = [...cards.querySelectorAll(".example:not([hidden]) .panels figure")];
    enlarge(figures[(figures.indexOf(current) + by + figures.length) % figures.length]);
  };

  cards.querySelectorAll(".panels figure").forEach((figure) => {
    figure.tabIndex = 0;
    figure.setAttribute("role", "button");
    figure.setAttribute("aria-haspopup", "dialog");
    figure.setAttribute("aria-label", `Enlarge: ${figure.querySelector("img").alt}`);
    figure.addEventListener("click", () => enlarge(figure));
    figure.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(figure);
    });
  });
  large.addEventListener("click", (event) => {
    const by = event.target.closest("button")?.value;
    if (by && by !== "0") step(Number(by));
    else if (by === "0" || event.target === large) large.close();
  });
  large.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  });
  large.addEventListener("close", () => current?.focus());

  controls.forEach((control) => control.addEventListener("input", () => {
    show();
    remember();
  }));
  addEventListener("hashchange", recall);
  recall();
})();
