"use strict";

/* A wallet in the browser fills and sends the same forms that a person would: first the address,
   then the signature. */

const place = document.querySelector("[data-signin]");
const list = place.querySelector("[data-wallets]");
const says = place.querySelector("[data-says]");
const signing = place.dataset.address || "";

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
  link.textContent = `Sign in with ${shortAddress(address)} instead`;
  return link;
}

async function connect(key, { name, provider }) {
  const [address] = await accountsOf(provider);
  if (!address) return say(`${name} has no account connected to this page. Connect one in the wallet, then try again.`);
  chooseWallet(key);
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
  if (!accounts.some((each) => sameHex(each, signing))) {
    const [other] = accounts;
    const now = other ? `${name} is on ${shortAddress(other)} now` : `${name} has no account connected`;
    return say(`${now}, and this message is for ${shortAddress(signing)}. Choose that account in the wallet and try again.`, other && otherAccount(other));
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

async function ask(key, wallet) {
  say("");
  try {
    await (signing ? sign(wallet) : connect(key, wallet));
  } catch (error) {
    say(walletReason(error, wallet.name));
  }
}

function watch({ name, provider }) {
  if (!signing || typeof provider.on !== "function") return;
  provider.on("accountsChanged", (accounts) => {
    const [other] = Array.isArray(accounts) ? accounts : [];
    if (typeof other !== "string" || sameHex(other, signing)) return say("");
    say(`${name} changed to ${shortAddress(other)}. This message is for ${shortAddress(signing)}.`, otherAccount(other));
  });
}

function show(any) {
  const none = place.querySelector("[data-no-wallet]");
  const signers = place.querySelector("[data-signers]");
  if (none) none.hidden = any;
  if (signers) signers.hidden = !any;
}

/* Who has a wallet here needs no command; what went wrong with one stays in sight. */
function foldCommand() {
  const byHand = place.querySelector("[data-by-hand]");
  if (byHand && !byHand.querySelector("[aria-invalid]")) byHand.open = false;
}

discoverWallets(
  (key, wallet) => {
    watch(wallet);
    if (list.children.length === 0) foldCommand();
    const button = walletButton(list, key, wallet, (name) => (signing ? `Sign with ${name}` : name), ask);
    if (signing && key === chosenWallet()) button.classList.add("button-primary");
    show(true);
  },
  (count) => show(count > 0),
);
