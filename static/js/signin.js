"use strict";

/* A wallet in the browser fills and sends the same forms that a person would: first the address,
   then the signature. Wallets announce themselves (EIP-6963); an older one is window.ethereum. */

const place = document.querySelector("[data-signin]");
const list = place.querySelector("[data-wallets]");
const says = place.querySelector("[data-says]");
const signing = place.dataset.address || "";
const CHOSEN = "signin-wallet";
const WAIT_MS = 400;
const found = new Map();

function say(text, link) {
  const line = says.querySelector("p");
  line.textContent = text;
  if (link) line.append(" ", link);
  says.hidden = text === "";
}

function otherAccount(address) {
  const link = document.createElement("a");
  const query = new URLSearchParams({ address, next: place.dataset.next });
  link.href = `/signin?${query}`;
  link.textContent = `Sign in with ${short(address)} instead`;
  return link;
}

function short(address) {
  return `${address.slice(0, 6)}…${address.slice(-4)}`;
}

function same(one, other) {
  return one.toLowerCase() === other.toLowerCase();
}

function chosen() {
  try {
    return sessionStorage.getItem(CHOSEN);
  } catch (error) {
    return null;
  }
}

function choose(key) {
  try {
    sessionStorage.setItem(CHOSEN, key);
  } catch (error) {
    // Storage is forbidden here: every wallet is offered again on the next page.
  }
}

/* What a wallet answers when it does not do what it was asked, in calm words. */
function reason(error, name) {
  const code = error && error.code;
  if (code === 4001) return `You declined in ${name}. Nothing was signed. Try again when you like.`;
  if (code === -32002) return `${name} has a question open already. Answer it in the wallet's own window.`;
  if (code === 4100) return `${name} is locked, or this account is not connected to this page. Unlock it and try again.`;
  const text = error && typeof error.message === "string" ? error.message.slice(0, 200) : "";
  return `${name} did not sign${text ? `: ${text}` : "."} Try again, or sign with the command line.`;
}

async function accountsOf(provider) {
  const accounts = await provider.request({ method: "eth_requestAccounts" });
  return Array.isArray(accounts) ? accounts.filter((each) => typeof each === "string") : [];
}

async function connect(key, { name, provider }) {
  const [address] = await accountsOf(provider);
  if (!address) return say(`${name} has no account connected to this page. Connect one in the wallet, then try again.`);
  choose(key);
  const form = place.querySelector("form");
  form.elements.address.value = address;
  form.requestSubmit();
}

function hex(text) {
  const octets = new TextEncoder().encode(text);
  return `0x${[...octets].map((octet) => octet.toString(16).padStart(2, "0")).join("")}`;
}

async function sign({ name, provider }) {
  const accounts = await accountsOf(provider);
  if (!accounts.some((each) => same(each, signing))) {
    const [other] = accounts;
    const now = other ? `${name} is on ${short(other)} now` : `${name} has no account connected`;
    return say(`${now}, and this message is for ${short(signing)}. Choose that account in the wallet and try again.`, other && otherAccount(other));
  }
  const chain = await chainOf(provider);
  if (chain !== null && chain !== Number(place.dataset.chainId)) {
    say(`${name} is on chain ${chain}; this registry is on chain ${place.dataset.chainId}. Signing works all the same. If the wallet warns, switch its network and try again.`);
  } else {
    say(`Look at ${name}: it shows the message and asks whether to sign it.`);
  }
  const message = document.getElementById("message-text").textContent;
  const signature = await provider.request({ method: "personal_sign", params: [hex(message), signing] });
  const form = place.querySelector("[data-sign-in]");
  form.elements.signature.value = signature;
  form.requestSubmit();
}

async function chainOf(provider) {
  try {
    const chain = Number(await provider.request({ method: "eth_chainId" }));
    return Number.isInteger(chain) ? chain : null;
  } catch (error) {
    return null;
  }
}

async function ask(key, button) {
  const wallet = found.get(key);
  const buttons = list.querySelectorAll("button");
  say("");
  for (const each of buttons) each.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await (signing ? sign(wallet) : connect(key, wallet));
  } catch (error) {
    say(reason(error, wallet.name));
  }
  button.removeAttribute("aria-busy");
  for (const each of buttons) each.disabled = false;
}

function watch({ name, provider }) {
  if (!signing || typeof provider.on !== "function") return;
  provider.on("accountsChanged", (accounts) => {
    const [other] = Array.isArray(accounts) ? accounts : [];
    if (typeof other !== "string" || same(other, signing)) return say("");
    say(`${name} changed to ${short(other)}. This message is for ${short(signing)}.`, otherAccount(other));
  });
}

function offer(key, wallet) {
  if (found.has(key)) return;
  found.set(key, wallet);
  watch(wallet);
  if (found.size === 1) foldCommand();
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button wallet-choice";
  if (signing && key === chosen()) button.classList.add("button-primary");
  if (wallet.icon) {
    const icon = document.createElement("img");
    icon.src = wallet.icon;
    icon.alt = "";
    icon.width = icon.height = 24;
    button.append(icon);
  }
  button.append(signing ? `Sign with ${wallet.name}` : wallet.name);
  button.addEventListener("click", () => ask(key, button));
  const item = document.createElement("li");
  item.append(button);
  if (key === chosen()) list.prepend(item);
  else list.append(item);
  show();
}

function show() {
  const none = place.querySelector("[data-no-wallet]");
  const signers = place.querySelector("[data-signers]");
  if (none) none.hidden = found.size > 0;
  if (signers) signers.hidden = found.size === 0;
}

/* Who has a wallet here needs no command; what went wrong with one stays in sight. */
function foldCommand() {
  const byHand = place.querySelector("[data-by-hand]");
  if (byHand && !byHand.querySelector("[aria-invalid]")) byHand.open = false;
}

/* A wallet's word about itself is shown, so it is kept short, and its icon has to be a data URI. */
function plainName(text) {
  return typeof text === "string" && text.trim() ? text.trim().slice(0, 40) : "Wallet";
}

window.addEventListener("eip6963:announceProvider", (event) => {
  const { info, provider } = event.detail || {};
  if (!info || !provider || typeof provider.request !== "function") return;
  const icon = typeof info.icon === "string" && info.icon.startsWith("data:image/") ? info.icon : "";
  offer(String(info.rdns || info.uuid), { name: plainName(info.name), icon, provider });
});
window.dispatchEvent(new Event("eip6963:requestProvider"));

setTimeout(() => {
  const older = window.ethereum;
  if (found.size === 0 && older && typeof older.request === "function") {
    offer("window.ethereum", { name: "Browser wallet", icon: "", provider: older });
  }
  show();
}, WAIT_MS);
