(() => {
  const tools = document.querySelector(".tools");
  if (!tools) return;
  tools.hidden = false;

  const buttons = [...tools.querySelectorAll("[data-show]")];
  const groups = [...document.querySelectorAll(".group")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    const kind = button.dataset.show;
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    groups.forEach((group) => { group.hidden = kind !== "*" && group.dataset.kind !== kind; });
  }));

  const order = document.getElementById("order");
  const given = groups.map((group) => [...group.querySelectorAll(".example")]);
  if (order) order.addEventListener("change", () => groups.forEach((group, i) => {
    const cards = [...given[i]];
    const key = order.value;
    if (key) cards.sort((a, b) => Number(b.dataset[key]) - Number(a.dataset[key]));
    group.querySelector(".cards").append(...cards);
  }));

  const opacity = document.getElementById("opacity");
  const apply = () => document.documentElement.style.setProperty("--opacity", opacity.value / 100);
  opacity.addEventListener("input", apply);
})();
