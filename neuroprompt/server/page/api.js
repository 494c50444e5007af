// The server's routes. What they refuse is a `Refusal`; the key, where one is wanted, is asked for once a tab.

import { find } from "./dom.js";

const KEY = "neuroprompt.key";

/** What a request was answered instead: `status` of HTTP (0 where nothing answered), one line, and seconds to wait. */
export class Refusal extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** GET a route, or POST to it where there is a body. Throws `Refusal`, or an AbortError where `signal` says so. */
export async function ask(path, body, signal) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = {
      ...(key && { Authorization: `Bearer ${key}` }),
      ...(body && { "Content-Type": "application/json" }),
    };
    let response;
    try {
      response = await fetch(path, {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, "the server does not answer: is it running?");
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer;
    const message = answer?.error?.message ?? `the server answered ${response.status}, and no reason`;
    if (response.status !== 401)
      throw new Refusal(response.status, message, Number(response.headers.get("Retry-After")));
    if (key === sessionStorage.getItem(KEY) && !(await askForKey(key))) throw new Refusal(401, message);
  }
}

/** The parts of the server, by name, whether or not all are ready. */
export async function parts() {
  const response = await fetch("readyz");
  return (await response.json()).parts;
}

let asking = null; // one dialog, however many requests wait for it

function askForKey(refused) {
  asking ??= new Promise((done) => {
    const dialog = find("key-dialog");
    const input = find("key");
    find("key-problem").textContent = refused ? "That key was not accepted." : "";
    input.value = "";
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        const key = dialog.returnValue === "use" ? input.value.trim() : "";
        if (key) sessionStorage.setItem(KEY, key);
        input.value = "";
        asking = null;
        done(Boolean(key));
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}
