// A page that waits asks now and then whether anything changed, with growing pauses and for ten minutes at most. It then
// says so and offers the way on; it goes on by itself only where the customer has just pressed Pay.
// Without this script every page has the same way on, as a link.
(() => {
  "use strict";
  const main = document.querySelector("main");

  const print = main.querySelector("[data-print]");
  if (print) {
    print.hidden = false;
    print.addEventListener("click", () => window.print());
  }

  const onward = main.querySelector("[data-onward]");
  if (!onward) return;
  const pauses = [1, 1, 2, 2, 3, 5, 8, 13, 20];
  const until = Date.now() + 10 * 60 * 1000;
  let looks = 0;

  const look = async () => {
    try {
      const answer = await fetch(main.dataset.status, { cache: "no-store", credentials: "omit" });
      if (answer.ok && (await answer.json()).now !== main.dataset.expected) {
        if ("leadsOn" in main.dataset) location.replace(onward.href);
        else tell();
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

  const tell = () => {
    const news = main.querySelector("[data-news]");
    news.textContent = news.dataset.news;
    onward.textContent = onward.dataset.onward;
    onward.classList.remove("secondary");
    for (const past of main.querySelectorAll("[data-until-news]")) {
      past.hidden = !past.contains(document.activeElement); // what the customer holds is not taken away
    }
    // Nobody's place on the page is lost: the focus moves only where it was nowhere, and nothing scrolls.
    if (document.activeElement === document.body) onward.focus({ preventScroll: true });
  };

  later();
})();
