// Conversations: sends without leaving the page, and shows the answer while it is written. What is drawn is drawn by
// the server: here words are only appended as text, and the thread is fetched again when something happened in it.
"use strict";
(() => {
  const chat = document.querySelector("[data-chat]");
  const form = document.querySelector("#composer");
  const box = document.querySelector("#chat-text");
  if (!chat || !form || !box) return;

  const part = (id) => document.getElementById(id);
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const written = new Map(); // words of unfinished messages, by id
  let streaming = false;
  let drawing = Promise.resolve();

  const base = () => `${chat.dataset.baseUrl}${chat.dataset.conversation}/`;

  // --- The composer and the window --------------------------------------------------------------------------------
  const setBusy = (busy) => {
    box.readOnly = busy;
    part("chat-send").hidden = busy;
    part("chat-stop").hidden = !busy;
    part("chat-stop").disabled = false;
    part("chat-stop").removeAttribute("aria-busy");
  };
  const say = (words) => (part("chat-status").textContent = words);
  const atEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
  const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);
  const keepingPlace = (change) => {
    const follow = atEnd();
    change();
    if (follow) toEnd();
  };

  // --- The thread -------------------------------------------------------------------------------------------------
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const thinking = () => {
    const line = element("div", "thinking", "Waiting for the answer");
    line.prepend(element("span", "spinner", ""));
    return line;
  };
  // Half-written markdown is easier to read without its signs; the server draws it once it is whole.
  const showWritten = (id) => {
    let message = part(`message-${id}`);
    if (!message) {
      message = element("div", "message", "");
      message.id = `message-${id}`;
      message.dataset.writing = ""; // or the next of the events of one swap takes it for the whole message
      part("thread").querySelector(".thinking")?.before(message);
      if (!message.isConnected) part("thread").append(message);
    }
    let words = message.querySelector(".message-text");
    if (!words) message.append((words = element("div", "message-text", "")));
    words.classList.add("live");
    words.textContent = written.get(id).replace(/\*\*|`/g, "");
  };
  const draw = () => {
    drawing = drawing.then(() =>
      htmx.ajax("GET", `${base()}thread/`, { target: "#thread", swap: "outerHTML" }).catch(() => {}));
    return drawing;
  };
  let open = [];
  let follows = false;
  document.addEventListener("htmx:beforeSwap", (e) => {
    if (e.detail.target.id !== "thread") return;
    follows = atEnd();
    open = [...document.querySelectorAll("#thread details[open]")].map((each) => each.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    open.forEach((id) => id && part(id) && (part(id).open = true));
    for (const id of written.keys()) {
      const message = part(`message-${id}`);
      if (message && !("writing" in message.dataset)) written.delete(id);
      else showWritten(id);
    }
    if (!streaming) watch();
    if (follows) toEnd();
  });
  // An answer that was asked for elsewhere, or before this page was loaded, has no stream here: ask how far it is.
  let timer;
  const watch = () => {
    const running = part("thread").dataset.running === "yes";
    setBusy(running);
    clearTimeout(timer);
    if (running) timer = setTimeout(() => streaming || draw(), 1000);
  };

  // --- The stream -------------------------------------------------------------------------------------------------
  const events = {
    conversation({ id }) {
      if (chat.dataset.conversation === String(id)) return;
      chat.dataset.conversation = id;
      history.replaceState(null, "", base());
      form.action = base();
      part("chat-stop-form").action = `${base()}stop/`;
      document.querySelectorAll("[data-new]").forEach((each) => each.remove());
    },
    text({ message, text }) {
      written.set(message, (written.get(message) || "") + text);
      keepingPlace(() => showWritten(message));
    },
    call: draw,
    result: draw,
    banner: draw,
    end({ state }) {
      say(state === "complete" ? "The answer is there." : "The answer ended early.");
    },
  };
  const receive = async (body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const kind = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data && Object.hasOwn(events, kind)) events[kind](JSON.parse(data));
      }
    }
  };

  const send = async (text) => {
    if (streaming || box.readOnly || !text.trim()) return;
    streaming = true;
    part("chat-problem").textContent = "";
    setBusy(true);
    say("Sent. Waiting for the answer.");
    const thread = part("thread");
    const mine = element("div", "bubble", text);
    const waits = thinking();
    thread.append(mine, waits);
    toEnd();
    const asked = chat.dataset.conversation ? { text, conversation: Number(chat.dataset.conversation) } : { text };
    try {
      const response = await fetch(chat.dataset.messagesUrl, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "text/event-stream", "X-CSRFToken": token },
        body: JSON.stringify(asked),
      });
      if (!response.ok) {
        mine.remove();
        const { detail } = await response.json().catch(() => ({}));
        part("chat-problem").textContent = detail || `Not sent: the server answered ${response.status}.`;
        if (!box.value) box.value = text;
        return;
      }
      await receive(response.body);
    } catch {
      part("chat-problem").textContent = "The connection to Aster was lost. The answer goes on without this page.";
    } finally {
      waits.remove();
      streaming = false;
      if (chat.dataset.conversation) await draw();
      else setBusy(false);
      box.focus({ preventScroll: true });
    }
  };

  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const text = box.value;
    if (box.readOnly || !text.trim()) return;
    box.value = "";
    send(text);
  });
  box.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    form.requestSubmit();
  });
  document.addEventListener("submit", (e) => {
    const again = e.target.closest("[data-again]");
    if (again) {
      e.preventDefault();
      send(again.elements.text.value);
    } else if (e.target.id === "chat-stop-form") {
      e.preventDefault();
      if (!chat.dataset.conversation) return;
      part("chat-stop").disabled = true;
      say("Stopping.");
      fetch(`${base()}stop/`, { method: "POST", headers: { "X-CSRFToken": token }, redirect: "manual" }).catch(() => {});
    }
  }, true);

  // Back from signing in or approving in another tab: what waited may not wait any more.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !streaming && chat.dataset.conversation) draw();
  });

  watch();
  if (chat.dataset.conversation) toEnd();
})();
