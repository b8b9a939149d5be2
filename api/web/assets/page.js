// Comfort only: every page works without it.
"use strict";

// "/" goes to the search, Escape closes a menu.
document.addEventListener("keydown", (e) => {
  const typing = e.target.closest("input, textarea, select, [contenteditable]");
  if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
    const find = document.getElementById("q");
    if (find) { e.preventDefault(); find.focus(); find.select(); }
  }
  if (e.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});
document.addEventListener("click", (e) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(e.target)) menu.open = false;
  }
});

// While the book grows the page asks for itself again, at most every other second
// and only while somebody can see it, and takes over its live parts.
const live = document.querySelector("[data-events]");
if (live && "EventSource" in window) {
  const pause = 2000;
  let known = Number(live.dataset.position), newest = known, busy = false, last = 0;

  const refresh = async () => {
    if (busy || document.hidden || newest <= known) return;
    busy = true;
    try {
      const wait = last + pause - Date.now();
      if (wait > 0) await new Promise((done) => setTimeout(done, wait));
      const asked = newest;
      const response = await fetch(location.href);
      if (response.redirected) return location.reload(); // to sign in again
      if (!response.ok) return;
      const made = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = made.getElementById(part.id);
        // What somebody is at stays until they have left it.
        if (fresh && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(fresh));
      }
      known = asked;
    } catch {
      // The engine is away; EventSource comes back by itself.
    } finally {
      last = Date.now();
      busy = false;
    }
    if (newest > known) refresh();
  };

  const events = new EventSource(live.dataset.events);
  const state = () => document.getElementById("live-state")?.classList.toggle("on", events.readyState === EventSource.OPEN);
  events.onopen = state;
  events.onerror = state;
  events.onmessage = (e) => { newest = Number(e.data); state(); refresh(); };
  document.addEventListener("visibilitychange", refresh);
  window.addEventListener("pagehide", () => events.close());
}
