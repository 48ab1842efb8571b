// A page that waits asks now and then whether anything changed, with growing pauses and for ten minutes at most.
// Without this script the page refreshes itself.
(() => {
  "use strict";
  const main = document.querySelector("main[data-status]");
  if (!main) return;
  const pauses = [1, 1, 2, 2, 3, 5, 8, 13, 20];
  const until = Date.now() + 10 * 60 * 1000;
  let looks = 0;

  const look = async () => {
    try {
      const answer = await fetch(main.dataset.status, { cache: "no-store", credentials: "omit" });
      if (answer.ok && (await answer.json()).now !== main.dataset.expected) {
        location.replace(main.dataset.next);
        return;
      }
    } catch {
      // The connection may be back at the next look.
    }
    later();
  };

  const later = () => {
    if (Date.now() > until) return;
    const pause = pauses[Math.min(looks, pauses.length - 1)];
    looks += 1;
    setTimeout(look, pause * 1000);
  };

  later();
})();
