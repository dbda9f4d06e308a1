// An agent's accounts, with Connect and Disconnect, on a page of your own: docs/embedding.md.
//   const aster = Aster.mount(element, { url, agent, getTicket });
(() => {
  "use strict";
  const home = document.currentScript ? new URL(document.currentScript.src).origin : location.origin;
  const WORDS = {
    connected: "Connected", not_connected: "Not connected", needs_reconnect: "Connection lost",
    nothing_to_connect: "Nothing to connect", disabled: "Switched off",
  };
  const CSS = `
:host { display: block; color: var(--aster-text, inherit);
  --line: var(--aster-line, light-dark(#d5d6de, #40424d));
  --accent: var(--aster-accent, light-dark(#4f47dd, #5d55e8)); --radius: var(--aster-radius, 8px); }
ul { margin: 0; padding: 0; list-style: none; border: 1px solid var(--line); border-radius: var(--radius); }
ul:empty { display: none; }
li { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; padding: .75rem 1rem; }
li + li { border-top: 1px solid var(--line); }
.about { flex: 1 1 9rem; overflow-wrap: anywhere; }
.name { display: block; font-weight: 600; }
.state, .reason { margin: 0; font-size: .875rem;
  color: var(--aster-muted, color-mix(in srgb, currentColor 80%, #888)); }
.state::before { content: "○ "; }
.connected::before { content: "● "; color: light-dark(#1a8a5c, #4cc38a); }
.needs_reconnect::before, .message { color: light-dark(#b4232b, #ff9b9b); }
.message:empty { display: none; }
button { font: inherit; padding: .4rem .875rem; cursor: pointer; color: inherit; background: none;
  border: 1px solid var(--line); border-radius: var(--radius); }
.connect { color: #fff; background: var(--accent); border-color: var(--accent); }
button:hover { border-color: currentColor; }
button:disabled { opacity: .6; cursor: progress; }
button:focus-visible { outline: 2px solid var(--aster-ring, light-dark(#6f68ee, #8f8aff)); outline-offset: 2px; }`;

  const failure = (detail, status = 0, code = "") => Object.assign(new Error(detail), { status, code });

  function clientOf({ url = home, agent, ticket, getTicket }) {
    const origin = new URL(url).origin;
    const base = `${url.replace(/\/$/, "")}/api/v1/session/agents/${encodeURIComponent(agent)}`;
    let renewal = null, conversation = null;

    async function renew() {
      renewal ??= Promise.resolve(getTicket()).finally(() => { renewal = null; });
      ticket = await renewal;
    }

    async function ask(method, path, body) {
      if (!ticket && getTicket) await renew();
      for (let again = Boolean(getTicket); ; again = false) {
        const used = ticket;
        const headers = { Authorization: `Bearer ${used}`, ...(body && { "Content-Type": "application/json" }) };
        const options = { method, headers, body: body && JSON.stringify(body), credentials: "omit" };
        const answer = await fetch(base + path, options).catch(() => { throw failure("Aster cannot be reached."); });
        if (answer.ok) return answer;
        const { detail = "Aster failed. Try again.", code } = await answer.json().catch(() => ({}));
        if (answer.status !== 401 || !again) throw failure(detail, answer.status, code);
        if (used === ticket) await renew();
      }
    }

    const json = async (...call) => (await ask(...call)).json();
    const at = (server, what) => `/servers/${encodeURIComponent(server)}/${what}`;

    return {
      servers: async () => (await json("GET", "/servers")).results,
      disconnect: (server) => json("POST", at(server, "disconnect")),

      // Call it from a click: browsers open windows for nothing else. True once the person is connected.
      async connect(server) {
        const popup = window.open("about:blank", "_blank", "popup,width=520,height=720");
        if (!popup) throw failure("The browser blocked the window. Allow pop-ups for this page.");
        const invited = await json("POST", at(server, "connect")).catch((error) => { popup.close(); throw error; });
        return new Promise((resolve) => {
          const end = (connected) => {
            removeEventListener("message", hear);
            clearInterval(watch);
            resolve(connected);
          };
          const hear = (event) => {
            if (event.origin !== origin || event.source !== popup) return;
            const { type } = event.data || {}, { proof } = invited;
            if (type === "aster:ready") popup.postMessage({ type: "aster:proof", proof }, origin);
            if (type === "aster:connected") end(true);
          };
          const watch = setInterval(() => popup.closed && end(false), 500);
          addEventListener("message", hear);
          popup.location = invited.url;
        });
      },

      // Resolves to the data of the last event, `end`.
      async send(text, onEvent) {
        const answer = await ask("POST", "/messages", { text, conversation });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "", last = null;
        for (let piece; !(piece = await reader.read()).done; ) {
          const blocks = (rest + piece.value).split("\n\n");
          rest = blocks.pop();
          for (const [, kind, data] of blocks.map((block) => /^event: (.*)\ndata: (.*)$/.exec(block) || [])) {
            if (!kind) continue;
            last = JSON.parse(data);
            if (kind === "conversation") conversation = last.id;
            onEvent?.(kind, last);
          }
        }
        return last;
      },
    };
  }

  function make(tag, part, text = "") {
    const made = document.createElement(tag);
    made.className = made.part = part;
    made.textContent = text;
    return made;
  }

  function mount(element, options) {
    const client = clientOf(options);
    const root = element.shadowRoot || element.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    const list = make("ul", "list"), message = make("p", "message");
    list.role = "list";
    message.role = "alert";
    root.replaceChildren(list, message);
    let busy = false, seen = 0;

    async function act(work) {
      if (busy) return;
      busy = true;
      const at = root.activeElement?.closest("li")?.dataset.server;
      root.querySelectorAll("button").forEach((button) => { button.disabled = true; });
      let problem = "";
      await Promise.resolve(work?.()).catch((error) => { problem = error.message; });
      try {
        list.replaceChildren(...(await client.servers()).map(row));
        message.textContent = problem;
      } catch (error) {
        message.textContent = `${problem || error.message} `;
        message.append(button("button", "Try again", () => act()));
      }
      busy = false;
      seen = Date.now();
      if (at) list.querySelector(`[data-server="${at}"] button`)?.focus();
    }

    const button = (part, text, onclick) => Object.assign(make("button", part, text), { type: "button", onclick });

    function row(server) {
      const made = make("li", "server"), about = make("div", "about");
      made.dataset.server = server.slug;
      about.append(make("span", "name", server.name), make("span", `state ${server.status}`, WORDS[server.status]));
      if (server.reason) about.append(make("p", "reason", server.reason));
      made.append(about);
      const offer = (part, text) => {
        const offered = button(part, text, () => act(() => client[part](server.slug)));
        offered.ariaLabel = `${text}: ${server.name}`;
        made.append(offered);
      };
      if (server.can_connect) offer("connect", server.can_disconnect ? "Connect again" : "Connect");
      if (server.can_disconnect) offer("disconnect", "Disconnect");
      return made;
    }

    const back = () => { if (Date.now() - seen > 1000) act(); };
    addEventListener("focus", back);
    act();
    return {
      ...client,
      connect: (server) => client.connect(server).finally(() => act()),
      disconnect: (server) => client.disconnect(server).finally(() => act()),
      refresh: () => act(),
      unmount() { removeEventListener("focus", back); root.replaceChildren(); },
    };
  }

  window.Aster = { mount };
})();
