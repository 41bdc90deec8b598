// Light, dark, or as the system has it. The choice is a cookie, so that the server sends the next page in it.
"use strict";
(() => {
  const button = document.getElementById("theme");
  const name = document.getElementById("theme-name");
  const root = document.documentElement;
  const order = ["auto", "light", "dark"];
  const words = { auto: "as the system", light: "light", dark: "dark" };

  const current = () => root.dataset.theme || "auto";
  const say = () => {
    name.textContent = words[current()];
    button.title = `Colours: ${words[current()]}`;
  };

  button.addEventListener("click", () => {
    const next = order[(order.indexOf(current()) + 1) % order.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    document.cookie = `sluice_theme=${next}; path=/; max-age=31536000; samesite=strict`;
    say();
    document.dispatchEvent(new Event("themechange"));
  });
  button.hidden = false;
  say();
})();
