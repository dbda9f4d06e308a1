// What the hub does better with JavaScript. Every page works without it; behaviour hangs on data attributes alone.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (event, selector, handler) =>
    document.addEventListener(event, (e) => {
      const found = e.target.closest?.(selector);
      if (found) handler(found, e);
    });

  // Copy: <button data-copy="#id-of-input"> or <button data-copy-text="...">
  on("click", "[data-copy], [data-copy-text]", async (button) => {
    const source = button.dataset.copy && document.querySelector(button.dataset.copy);
    const text = source ? source.value ?? source.textContent : button.dataset.copyText;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Clipboard access needs HTTPS; on plain HTTP the old command still works on a selected input.
      if (!source?.select) return;
      source.select();
      document.execCommand("copy");
    }
    const label = button.querySelector("[data-label]") || button;
    const before = label.dataset.before ?? (label.dataset.before = label.textContent);
    label.textContent = "Copied";
    setTimeout(() => (label.textContent = before), 1800);
  });

  // Menus: one open at a time; Escape, a click elsewhere and leaving by Tab close them.
  const closeMenus = (except) =>
    all("details.menu[open], .topbar details[open]").forEach((menu) => {
      if (!menu.contains(except)) menu.open = false;
    });
  // On phones the sidebar is what the topbar's own menu opens.
  const leaveMenus = (e) => {
    if (!e.target.closest(".sidebar")) closeMenus(e.target);
    else all(".sidebar details.menu[open]").forEach((menu) => menu.contains(e.target) || (menu.open = false));
  };
  document.addEventListener("click", leaveMenus);
  document.addEventListener("focusin", leaveMenus);
  document.addEventListener("keydown", (e) => {
    const menus = all("details.menu[open], .topbar details[open]");
    if (e.key !== "Escape" || !menus.length) return;
    const menu = menus.find((each) => each.contains(document.activeElement)) || menus[0];
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // Theme: kept in a cookie so that the server renders the right one at once.
  const showTheme = (theme) =>
    all("[data-set-theme]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.setTheme === theme)));
  on("click", "[data-set-theme]", (button) => {
    const theme = button.dataset.setTheme;
    document.documentElement.dataset.theme = theme;
    document.cookie = `aster_theme=${theme}; path=/; max-age=31536000; samesite=lax`;
    showTheme(theme);
  });

  // <select data-own-zone>: begins with the time zone of the device, if it is offered.
  all("select[data-own-zone]").forEach((select) => {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    if (all("option", select).some((option) => option.value === timeZone)) select.value = timeZone;
  });

  // <div data-show-if="auth=oauth client=manual|dcr">: shown while every named control has one of its values;
  // a comma separates alternatives.
  const valueOf = (form, name) => {
    const control = form.elements[name];
    if (!control) return "";
    if (control.type === "checkbox") return control.checked ? "on" : "off";
    return control.value;
  };
  const applyConditions = (root = document) =>
    all("[data-show-if]", root).forEach((part) => {
      const form = part.closest("form");
      const holds = (rule) => {
        const [name, values] = rule.split("=");
        return values.split("|").includes(valueOf(form, name));
      };
      const shown = part.dataset.showIf.split(",").some((rules) => rules.trim().split(/\s+/).every(holds));
      part.hidden = !shown;
      // A hidden required control would block the browser's own validation without a visible reason.
      all("[required], [data-required]", part).forEach((control) => {
        control.dataset.required = "";
        control.required = shown && !control.closest("[hidden]");
      });
    });

  // data-confirm on a form or its submit button asks in a dialog first.
  const ask = (text, title, label, proceed) => {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "confirm-title");
    dialog.innerHTML =
      '<form method="dialog"><h2 id="confirm-title"></h2><p></p><div class="form-actions">' +
      '<button class="button" value="">Cancel</button><button class="button danger" value="yes"></button></div></form>';
    dialog.querySelector("h2").textContent = title || "Are you sure?";
    dialog.querySelector("p").textContent = text;
    dialog.querySelector(".danger").textContent = label || "Confirm";
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (dialog.returnValue === "yes") proceed();
    });
    document.body.append(dialog);
    dialog.showModal();
  };
  document.addEventListener("submit", (e) => {
    const form = e.target;
    const button = e.submitter;
    if (form.method === "dialog") return;
    const asking = button?.dataset.confirm ? button : form.dataset.confirm ? form : null;
    if (asking && !form.dataset.confirmed) {
      e.preventDefault();
      e.stopPropagation();
      ask(asking.dataset.confirm, asking.dataset.confirmTitle, asking.dataset.confirmLabel, () => {
        form.dataset.confirmed = "1";
        form.requestSubmit(button);
        delete form.dataset.confirmed;
      });
    }
  }, true);
  document.addEventListener("submit", (e) => {
    if (e.defaultPrevented || !e.submitter || e.target.method === "dialog" || e.target.target === "_blank") return;
    e.submitter.setAttribute("aria-busy", "true");
    // A second press is refused only after the first one's name and value have been read.
    setTimeout(() => (e.submitter.disabled = true));
  });
  addEventListener("pageshow", (e) => {
    if (!e.persisted) return;
    all("[aria-busy=true]").forEach((b) => { b.disabled = false; b.removeAttribute("aria-busy"); });
  });

  // Flash messages: a close button on each; good news leaves by itself.
  const dismiss = (flash) => {
    flash.classList.add("leaving");
    setTimeout(() => flash.remove(), 260);
  };
  on("click", "[data-dismiss]", (button) => dismiss(button.closest(".flash")));

  on("change", "[data-autosubmit]", (control) => control.form.requestSubmit());
  on("click", "[data-reveal]", (button) => {
    const input = document.querySelector(button.dataset.reveal);
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  });

  // Change lists: select all on the page; "Add another" in inline forms.
  const countSelected = () => {
    const boxes = all(".action-select");
    const chosen = boxes.filter((box) => box.checked).length;
    all("[data-selected-count]").forEach((note) => (note.textContent = `${chosen} of ${boxes.length} selected`));
    const toggle = document.querySelector("#action-toggle");
    if (!toggle) return;
    toggle.checked = chosen > 0 && chosen === boxes.length;
    toggle.indeterminate = chosen > 0 && chosen < boxes.length;
  };
  on("change", "#action-toggle", (toggle) => all(".action-select").forEach((box) => (box.checked = toggle.checked)));
  on("change", "#action-toggle, .action-select", countSelected);
  on("click", "[data-add-inline]", (button) => {
    const prefix = button.dataset.addInline;
    const total = document.querySelector(`#id_${prefix}-TOTAL_FORMS`);
    const blank = document.querySelector(`#${prefix}-blank`);
    const holder = document.createElement("template");
    holder.innerHTML = blank.innerHTML.replaceAll("__prefix__", total.value);
    blank.before(holder.content);
    total.value = Number(total.value) + 1;
  });

  document.addEventListener("change", (e) => e.target.form && applyConditions(e.target.form));
  const enhance = (root = document) => {
    all(".vDateField", root).forEach((input) => (input.type = "date"));
    all(".vTimeField", root).forEach((input) => { input.type = "time"; input.step = 1; });
    all(".flash[data-leaves]", root).forEach((flash) =>
      setTimeout(() => flash.matches(":hover, :focus-within") || dismiss(flash), 7000));
    applyConditions(root);
  };
  showTheme(document.documentElement.dataset.theme);
  countSelected();
  enhance();
  // htmx swaps parts. Where the server led elsewhere (to the sign-in page, say) the whole page goes there; failures are said.
  document.addEventListener("htmx:beforeSwap", (e) => {
    const { finalRequestPath, responsePath } = e.detail.pathInfo;
    if (!responsePath || responsePath === finalRequestPath) return;
    e.detail.shouldSwap = false;
    location.assign(e.detail.xhr.responseURL);
  });
  ["htmx:responseError", "htmx:sendError", "htmx:timeout"].forEach((failure) =>
    document.addEventListener(failure, () => {
      const flash = document.createElement("div");
      flash.className = "flash callout error";
      flash.setAttribute("role", "alert");
      flash.textContent = "That did not work. Reload the page and try again.";
      document.querySelector(".flash-region")?.replaceChildren(flash);
      flash.scrollIntoView({ block: "nearest" });
    }));
  document.addEventListener("htmx:load", (e) => enhance(e.target));
})();
