"use strict";

// Your server knows who is signed in, and asks Aster for a ticket for this person. The page never sees the API key.
const getTicket = async () => (await (await fetch("/ticket", { method: "POST" })).json()).ticket;

const { aster: url, agent } = document.body.dataset;
const aster = window.Aster.mount(document.getElementById("accounts"), { url, agent, getTicket });

document.getElementById("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = document.getElementById("answer");
  answer.textContent = "";
  try {
    const end = await aster.send(event.target.elements.text.value, (kind, data) => {
      if (kind === "text") answer.textContent += data.text;
      // An account is missing or lost: the list above offers Connect.
      if (kind === "banner") aster.refresh();
    });
    if (end?.error) answer.textContent += end.error;
    event.target.reset();
  } catch (error) {
    answer.textContent = error.message;
  }
});
