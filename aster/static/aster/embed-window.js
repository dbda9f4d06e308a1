// The window that a page of another app opens to connect a server. It talks to that page's origin and to no other.
"use strict";

const part = document.querySelector("[data-embed]");
const page = window.opener;

function ask() {
  // Continue works once the page that opened this window has handed over its proof; a link in a mail has no such page.
  const refused = part.querySelector("[data-refused]");
  const waiting = setTimeout(() => { refused.hidden = false; }, page ? 4000 : 0);
  window.addEventListener("message", (event) => {
    if (!page || event.source !== page || event.origin !== part.dataset.origin) return;
    if (event.data?.type !== "aster:proof" || typeof event.data.proof !== "string") return;
    clearTimeout(waiting);
    refused.hidden = true;
    part.elements.proof.value = event.data.proof;
    part.querySelector("button").disabled = false;
  });
  page?.postMessage({ type: "aster:ready" }, part.dataset.origin);
}

function connected() {
  page?.postMessage({ type: "aster:connected", server: part.dataset.server }, part.dataset.origin);
  if (page) window.close();
}

if (part?.dataset.embed === "ask") ask();
if (part?.dataset.embed === "connected") connected();
