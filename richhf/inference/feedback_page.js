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

  controls.forEach((control) => control.addEventListener("input", () => {
    show();
    remember();
  }));
  addEventListener("hashchange", recall);
  recall();
})();
