// Keeps the page up to date: the feed as requests end, the rest every few seconds, both drawn by the server.
// What somebody is reading with the keyboard or has opened is left alone; everything can be paused.
"use strict";
(() => {
  const REFRESH_MS = 10000;
  const PENDING_MS = 1500; // where something is still being added up
  const SAY_MS = 4000;
  const ROWS_AT_MOST = 50;
  const rows = document.getElementById("feed-rows");
  const state = document.getElementById("feed-state");
  const news = document.getElementById("feed-news");
  const pause = document.getElementById("pause");
  let paused = false;
  let unsaid = 0;
  let held = [];

  // -- the feed

  const rowOf = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };

  const place = (row) => {
    if (rows.querySelector(`[data-id="${CSS.escape(row.dataset.id)}"]`)) return false;
    const after = [...rows.children].find((other) => other.dataset.at <= row.dataset.at);
    rows.insertBefore(row, after ?? null);
    while (rows.children.length > ROWS_AT_MOST && !rows.lastElementChild.contains(document.activeElement)) {
      rows.lastElementChild.remove();
    }
    document.getElementById("feed-empty").hidden = true;
    return true;
  };

  const told = (html) => {
    if (paused) {
      held = [...held, html].slice(-ROWS_AT_MOST);
      state.textContent = `Paused, ${held.length} new`;
      return;
    }
    const row = rowOf(html);
    if (place(row)) {
      row.classList.add("fresh");
      unsaid += 1;
    }
  };

  setInterval(() => {
    if (!unsaid) return;
    news.textContent = unsaid === 1 ? "One new request" : `${unsaid} new requests`;
    unsaid = 0;
  }, SAY_MS);

  // Browsers connect again by themselves after a connection that broke, and never after an answer that is no feed: what a
  // proxy says while the endpoint restarts, say. Then the next refresh does.
  let source = null;
  const listen = () => {
    source = new EventSource("/dashboard/feed");
    source.addEventListener("open", () => { if (!paused) state.textContent = "Live"; });
    source.addEventListener("decision", (event) => told(event.data));
    source.addEventListener("error", () => {
      if (!paused) state.textContent = "Connecting again";
      if (source.readyState === EventSource.CLOSED) {
        state.textContent = "Not live";
        refresh();
      }
    });
  };
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    state.textContent = paused ? "Paused" : "Live";
    if (!paused) {
      held.forEach(told);
      held = [];
      refresh();
    }
  });

  // -- everything else

  const inUse = (section) =>
    section.contains(document.activeElement) || section.querySelector("details[open]") !== null;

  const refresh = async () => {
    if (document.hidden) return;
    let answer;
    try {
      answer = await fetch("/", { headers: { accept: "text/html" }, cache: "no-store" });
    } catch {
      return; // the endpoint is away for a moment; the feed says so
    }
    if (answer.redirected) {
      location.assign(answer.url); // the session has ended
      return;
    }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const section of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(section.id);
      if (!next || inUse(section)) continue;
      if (section.id === "charts") {
        const text = (part) => [...part.querySelectorAll("script, p")].map((one) => one.textContent).join();
        if (text(section) === text(next)) continue;
        section.replaceChildren(...next.childNodes);
        document.dispatchEvent(new Event("chartschange"));
      } else if (section.innerHTML !== next.innerHTML) {
        const left = [...section.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
        section.replaceChildren(...next.childNodes);
        section.querySelectorAll(".scroll").forEach((part, at) => { part.scrollLeft = left[at] ?? 0; });
      }
    }
    if (!paused) [...fresh.querySelectorAll("#feed-rows > tr")].reverse().forEach((row) => place(document.adoptNode(row)));
  };

  const keepUp = async () => {
    if (!paused) await refresh();
    if (source.readyState === EventSource.CLOSED && !document.hidden) listen();
    setTimeout(keepUp, document.querySelector("[data-pending]") ? PENDING_MS : REFRESH_MS);
  };
  setTimeout(keepUp, document.querySelector("[data-pending]") ? PENDING_MS : REFRESH_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });

  // -- explanations

  const dialog = document.getElementById("explanation");
  const body = document.getElementById("explanation-body");
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[data-dialog]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const answer = await fetch(link.href, { cache: "no-store" }).catch(() => null);
    const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    const article = page?.getElementById("decision");
    if (!article) {
      location.assign(link.href);
      return;
    }
    article.querySelector(".back")?.remove();
    body.replaceChildren(document.adoptNode(article));
    dialog.showModal();
    dialog.scrollTop = 0;
    dialog.addEventListener("close", () => link.isConnected && link.focus(), { once: true });
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  pause.hidden = false;
  listen();
})();
