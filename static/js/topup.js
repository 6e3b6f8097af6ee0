"use strict";

/* A top-up from the browser's wallet: the page fetches what is to be signed (EIP-712), holds it
   against what it knows itself, and only then asks the wallet. The signature goes out with the form,
   as a person would send it. */

const PERMIT_FIELDS = "owner:address spender:address value:uint256 nonce:uint256 deadline:uint256";
const DOMAIN_FIELDS = "name:string version:string chainId:uint256 verifyingContract:address";
const PERMIT_MAX_SECONDS = 7 * 86_400;
const IFM_DECIMALS = 18;
const wallets = new Map();
let settled = false;

function topUpPlace() {
  return document.querySelector("[data-top-up]");
}

function topUpSays(place, text, kind = "info") {
  const box = place.querySelector("[data-says]");
  box.className = `notice notice-${kind}`;
  box.querySelector("p").textContent = text;
  box.hidden = text === "";
}

/* Base units of "2.5 IFM"; null for what is no amount above zero. */
function baseUnits(text) {
  const match = /^\s*([0-9]{1,40})(?:\.([0-9]{1,18}))?\s*(?:ifm)?\s*$/i.exec(text);
  if (!match) return null;
  const units = BigInt(match[1]) * 10n ** BigInt(IFM_DECIMALS) + BigInt((match[2] || "").padEnd(IFM_DECIMALS, "0"));
  return units > 0n ? units : null;
}

function fieldsOf(types, name) {
  const list = types && Array.isArray(types[name]) ? types[name] : [];
  return list.map((each) => `${each.name}:${each.type}`).join(" ");
}

function isWhole(value) {
  return /^[0-9]+$/.test(String(value));
}

/* What is wrong with a permit that is about to be signed; "" when nothing is. */
function permitFault(permit, { chainId, ifm, settlement, address, units }) {
  const { domain = {}, message = {}, types = {}, primaryType } = permit || {};
  if (primaryType !== "Permit" || Object.keys(types).some((each) => each !== "Permit" && each !== "EIP712Domain")) return "it is not a permit";
  if (fieldsOf(types, "Permit") !== PERMIT_FIELDS) return "it has other fields than a permit";
  if ("EIP712Domain" in types && fieldsOf(types, "EIP712Domain") !== DOMAIN_FIELDS) return "its domain has other fields than IFM's";
  if (String(domain.chainId) !== String(chainId)) return `it is for chain ${domain.chainId}`;
  if (!sameHex(domain.verifyingContract, ifm)) return "it is for another token than IFM";
  if (!sameHex(message.spender, settlement)) return "it would let somebody else take the money";
  if (!sameHex(message.owner, address)) return "it is for another wallet";
  if (!isWhole(message.value) || BigInt(message.value) !== units) return "it is for another amount";
  const now = Date.now() / 1000;
  if (!isWhole(message.deadline) || Number(message.deadline) > now + PERMIT_MAX_SECONDS) return "it would be good for too long";
  return "";
}

async function fetchPermit(place, amount) {
  const answer = await fetch(`${place.dataset.permitUrl}?${new URLSearchParams({ amount })}`, { headers: { Accept: "application/json" } });
  const told = await answer.json().catch(() => null);
  if (answer.ok && told) return told;
  const detail = told && told.detail ? `${told.detail} ${told.remedy || ""}` : "The permit could not be fetched. Load the page again.";
  throw Object.assign(new Error(detail), { isOurs: true });
}

async function topUp(key, { name, provider }) {
  const place = topUpPlace();
  const form = place.querySelector("[data-deposit]");
  const { amount, deadline, signature } = form.elements;
  const address = place.dataset.address;
  const units = baseUnits(amount.value);
  if (units === null) {
    topUpSays(place, "Name an amount above zero, like 2.5 IFM.", "bad");
    return amount.focus();
  }
  topUpSays(place, "");
  try {
    const accounts = await accountsOf(provider);
    if (!accounts.some((each) => sameHex(each, address))) {
      const now = accounts[0] ? `${name} is on ${shortAddress(accounts[0])} now` : `${name} has no account connected`;
      return topUpSays(place, `${now}. Choose ${shortAddress(address)} in the wallet and try again.`, "warn");
    }
    const chain = await chainOf(provider);
    if (chain !== Number(place.dataset.chainId)) {
      return topUpSays(place, `${name} is on chain ${chain === null ? "unknown" : chain}, and the money is on chain ${place.dataset.chainId}. Switch the wallet's network and try again.`, "warn");
    }
    const permit = await fetchPermit(place, amount.value);
    const fault = permitFault(permit, { ...place.dataset, units });
    if (fault) return topUpSays(place, `Not signed: what was to be signed is not what you asked for, ${fault}. Tell whoever runs this registry.`, "bad");
    topUpSays(place, `Look at ${name}: it asks whether to let the settlement contract take this amount. Signing costs no gas.`);
    chooseWallet(key);
    const signed = await provider.request({ method: "eth_signTypedData_v4", params: [address, JSON.stringify(permit)] });
    deadline.value = String(permit.message.deadline);
    signature.value = String(signed);
    topUpSays(place, "Signed. Sending it.");
    form.requestSubmit();
  } catch (error) {
    topUpSays(place, error && error.isOurs ? error.message : walletReason(error, name), "bad");
  }
}

function offerTopUp(place, key, wallet) {
  const button = walletButton(place.querySelector("[data-wallets]"), key, wallet, (name) => `Top up with ${name}`, topUp);
  if (wallets.size === 1 || key === chosenWallet()) button.classList.add("button-primary");
}

/* The command beside the form says the amount that stands in it. */
function showCommand(place) {
  const form = place.querySelector("[data-deposit]");
  const code = place.querySelector("[data-command] code");
  if (!form || !code) return;
  const amount = baseUnits(form.elements.amount.value) === null ? "5" : form.elements.amount.value.replace(/\s*ifm\s*$/i, "").trim();
  code.textContent = `infra deposit ${amount}`;
  const copy = place.querySelector("[data-command] [data-copy]");
  if (copy) copy.dataset.copy = code.textContent;
}

function showTopUp() {
  const place = topUpPlace();
  if (!place || place.dataset.ready) return;
  place.dataset.ready = "yes";
  for (const [key, wallet] of wallets) offerTopUp(place, key, wallet);
  place.querySelector("[data-no-wallet]").hidden = !settled || wallets.size > 0;
  place.addEventListener("input", () => showCommand(place));
  // Enter in the field means the wallet that stands first; without one there is nothing to send.
  place.querySelector("[data-deposit]").addEventListener("submit", (event) => {
    if (event.currentTarget.elements.signature.value) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const first = place.querySelector("[data-wallets] button:not([disabled])");
    if (first) first.click();
  }, { capture: true });
  showCommand(place);
}

discoverWallets(
  (key, wallet) => {
    wallets.set(key, wallet);
    const place = topUpPlace();
    if (place && place.dataset.ready) offerTopUp(place, key, wallet);
  },
  () => {
    settled = true;
    const place = topUpPlace();
    if (place) place.querySelector("[data-no-wallet]").hidden = wallets.size > 0;
  },
);
document.addEventListener("htmx:afterSettle", showTopUp);
showTopUp();
