// Loads the page's modules. Where one of them does not come (a crowd loads the page at once, a daemon is just
// being replaced), the page is loaded again a little later, a few times. A plain script, so that it can.
"use strict";

(() => {
  const main = document.currentScript.dataset.main;
  const key = "captiond.loads";
  const most = 8;

  async function again() {
    const loads = Number(sessionStorage.getItem(key)) + 1;
    if (loads > most) return;
    await new Promise((resolve) => setTimeout(resolve, 500 * loads * (1 + Math.random())));
    const answer = await fetch(location.href).catch(() => null);
    if (!answer?.ok) return again();
    sessionStorage.setItem(key, String(loads));
    location.reload();
  }

  import(new URL(main, document.currentScript.src).href).then(
    () => sessionStorage.removeItem(key),
    (error) => {
      console.error(error);
      again();
    },
  );
})();
