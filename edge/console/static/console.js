/*
 * Keeps an open page in step with the gateway: swaps in the pieces that changed. Everything can be
 * read without it; then the page reloads itself.
 */
"use strict";
(function () {
  const address = document.body.dataset.live;
  if (!address || !window.EventSource) return;
  const offline = document.getElementById("offline");
  let source = null;

  function elementFrom(html) {
    const template = document.createElement("template");
    template.innerHTML = html.trim();
    return template.content.firstElementChild;
  }

  /* A person who moves by keyboard must not lose the place when the piece under it is renewed. */
  function focusedAddress() {
    const focused = document.activeElement;
    return focused && focused.closest("#rows") ? focused.getAttribute("href") : null;
  }

  function put(id, html) {
    const fresh = elementFrom(html);
    const old = document.getElementById(id);
    if (old) old.replaceWith(fresh);
    return fresh;
  }

  function arrange(order, fresh) {
    const rows = document.getElementById("rows");
    const wanted = new Set(order);
    for (const row of Array.from(rows.children)) if (!wanted.has(row.id)) row.remove();
    order.forEach(function (id, position) {
      const row = document.getElementById(id) || fresh[id];
      if (row && rows.children[position] !== row) rows.insertBefore(row, rows.children[position] || null);
    });
    const empty = document.querySelector(".empty");
    if (empty) empty.hidden = order.length > 0;
  }

  function receive(event) {
    const message = JSON.parse(event.data);
    const focused = focusedAddress();
    const fresh = {};
    for (const id of Object.keys(message.parts)) fresh[id] = put(id, message.parts[id]);
    if (message.order) arrange(message.order, fresh);
    if (focused) {
      const link = document.querySelector('#rows a[href="' + CSS.escape(focused) + '"]');
      if (link && link !== document.activeElement) link.focus({ preventScroll: true });
    }
  }

  /* After a lost connection the browser tries again by itself; after a refusal it does not. */
  function lost() {
    offline.hidden = false;
    if (source.readyState === EventSource.CLOSED) window.setTimeout(connect, 15000);
  }

  function connect() {
    if (source) source.close();
    source = new EventSource(address);
    source.onmessage = receive;
    source.onopen = function () { offline.hidden = true; };
    source.onerror = lost;
  }

  connect();
  /* Leaving the page is no lost connection; coming back to a kept page opens a new one. */
  window.addEventListener("pagehide", function () { source.close(); });
  window.addEventListener("pageshow", function (event) { if (event.persisted) connect(); });
})();
