"use strict";

/* The wallets of this browser, for every page that asks one for something. Wallets announce
   themselves (EIP-6963); an older one is window.ethereum. */

const WALLET_CHOSEN = "signin-wallet";
const WALLET_WAIT_MS = 400;

function shortAddress(address) {
  return `${address.slice(0, 6)}…${address.slice(-4)}`;
}

function sameHex(one, other) {
  return typeof one === "string" && typeof other === "string" && one.toLowerCase() === other.toLowerCase();
}

function chosenWallet() {
  try {
    return sessionStorage.getItem(WALLET_CHOSEN);
  } catch (error) {
    return null;
  }
}

function chooseWallet(key) {
  try {
    sessionStorage.setItem(WALLET_CHOSEN, key);
  } catch (error) {
    // Storage is forbidden here: every wallet is offered again on the next page.
  }
}

/* What a wallet answers when it does not do what it was asked, in calm words. */
function walletReason(error, name) {
  const code = error && error.code;
  if (code === 4001) return `You declined in ${name}. Nothing was signed. Try again when you like.`;
  if (code === -32002) return `${name} has a question open already. Answer it in the wallet's own window.`;
  if (code === 4100) return `${name} is locked, or this account is not connected to this page. Unlock it and try again.`;
  const text = error && typeof error.message === "string" ? error.message.slice(0, 200) : "";
  return `${name} did not sign${text ? `: ${text}` : "."} Try again, or use the command line.`;
}

async function accountsOf(provider) {
  const accounts = await provider.request({ method: "eth_requestAccounts" });
  return Array.isArray(accounts) ? accounts.filter((each) => typeof each === "string") : [];
}

async function chainOf(provider) {
  try {
    const chain = Number(await provider.request({ method: "eth_chainId" }));
    return Number.isInteger(chain) ? chain : null;
  } catch (error) {
    return null;
  }
}

/* A wallet's word about itself is shown, so it is kept short, and its icon has to be a data URI. */
function plainWalletName(text) {
  return typeof text === "string" && text.trim() ? text.trim().slice(0, 40) : "Wallet";
}

/* A button for each wallet, first the one that was chosen before. ``words(name)`` is what it says,
   ``act(key, wallet, button)`` what it does. Gives the list item that holds it. */
function walletButton(list, key, wallet, words, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button wallet-choice";
  if (wallet.icon) {
    const icon = document.createElement("img");
    icon.src = wallet.icon;
    icon.alt = "";
    icon.width = icon.height = 24;
    button.append(icon);
  }
  button.append(words(wallet.name));
  button.addEventListener("click", async () => {
    const buttons = list.querySelectorAll("button");
    for (const each of buttons) each.disabled = true;
    button.setAttribute("aria-busy", "true");
    try {
      await act(key, wallet);
    } finally {
      button.removeAttribute("aria-busy");
      for (const each of buttons) each.disabled = false;
    }
  });
  const item = document.createElement("li");
  item.append(button);
  if (key === chosenWallet()) list.prepend(item);
  else list.append(item);
  return button;
}

/* Calls ``found(key, {name, icon, provider})`` once for each wallet, and ``settled(count)`` when
   those that are here have had the time to say so. */
function discoverWallets(found, settled) {
  const known = new Set();
  const offer = (key, wallet) => {
    if (known.has(key)) return;
    known.add(key);
    found(key, wallet);
  };
  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = event.detail || {};
    if (!info || !provider || typeof provider.request !== "function") return;
    const icon = typeof info.icon === "string" && info.icon.startsWith("data:image/") ? info.icon : "";
    offer(String(info.rdns || info.uuid), { name: plainWalletName(info.name), icon, provider });
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  setTimeout(() => {
    const older = window.ethereum;
    if (known.size === 0 && older && typeof older.request === "function") {
      offer("window.ethereum", { name: "Browser wallet", icon: "", provider: older });
    }
    settled(known.size);
  }, WALLET_WAIT_MS);
}
