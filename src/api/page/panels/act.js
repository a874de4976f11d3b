// Draining, forcing and restoring. Before anything is done, the dialog and the chart show whom it moves, and whether a rule forbids it.

import { html, useEffect, useMemo, useState } from "../lib.js";
import { overridesOf } from "../health.js";
import { chooseService, refresh } from "../live.js";
import { node } from "../node.js";
import { update, useStore } from "../store.js";
import { overrideOrigin, overrideState, sentence, shortName } from "../words.js";
import { Dialog, useFocusReturn } from "./dialog.js";
import { Plan } from "./plan.js";
import { FOR_CHANGES, TokenForm, canChange } from "./token.js";

const ACTIONS = {
  drain: { verb: "Drain", means: "sends no clients there" },
  up: { verb: "Force up", means: "treats it as up, whatever probes find" },
  down: { verb: "Force down", means: "treats it as down, whatever probes find" },
  restore: { verb: "Restore", means: "removes the override" },
};

const SHARES = ["100%", "75%", "50%", "25%", "10%"];
const TIMES = [["", "until restored"], ["15m", "15 minutes"], ["30m", "30 minutes"], ["1h", "1 hour"], ["4h", "4 hours"], ["1d", "1 day"]];

// After the last change of the form, before it is planned.
const PAUSE = 150;

// `subject` is `{ target, override?, service?, action? }`; of a service, its regions are targets.
export function Act({ subject, onClose }) {
  const self = useStore((state) => state.self);
  const status = useStore((state) => state.status);
  const [change, setChange] = useState({
    target: subject.target, action: subject.action ?? (subject.override ? "restore" : "drain"),
    share: "100%", for: "", reason: "", overrideSafety: false,
  });
  // Whether a token was missing when the change was sent.
  const [isLocked, setLocked] = useState(false);
  const [refusal, setRefusal] = useState(null);
  const [done, setDone] = useState(null);
  // The override of the target, which others may change meanwhile.
  const override = useMemo(() => overridesOf(status).find(({ target }) => target === change.target) ?? null, [status, change.target]);
  const [isSending, setSending] = useState(false);
  const isInForce = !isSending && !done && inForce(change, override);
  const reply = usePlan(change, isSending || done || isInForce);
  usePreview(change, isInForce ? null : reply.plan, done);
  useFocusReturn();
  useEffect(() => {
    if (subject.service) chooseService(subject.service.name);
    // Where the dialog lies over the page, the chart must be above it.
    const block = matchMedia("(max-width: 999px)").matches ? "start" : "nearest";
    document.querySelector(".chart-panel")?.scrollIntoView({ block });
  }, []);

  const apply = async () => {
    setRefusal(null);
    if (changesNothing(change, override)) return undefined;
    if (!canChange(self)) return setLocked(true);
    setSending(true);
    try {
      setDone(await send(change, override));
      refresh();
    } catch (problem) {
      if (problem.needsToken || await isViewer(problem)) setLocked(true);
      else setRefusal(problem);
    } finally {
      setSending(false);
    }
    return undefined;
  };
  if (isLocked && !canChange(self)) {
    return html`<${Dialog} title=${`${ACTIONS[change.action].verb} ${change.target}`} onClose=${onClose} beside>
      <${TokenForm} why=${`${FOR_CHANGES} On the node's host, the commands need none: portolan drain, force and restore.`} forChanges onDone=${() => {}} /><//>`;
  }
  if (done) return html`<${Done} done=${done} action=${change.action} onClose=${onClose} />`;
  const title = subject.service ? `Regions of ${shortName(subject.service.name)}` : change.target;
  return html`<${Dialog} title=${title} onClose=${onClose} beside>
    <${Form} subject=${subject} change=${change} onChange=${setChange} override=${override} isInForce=${isInForce} reply=${reply} refusal=${refusal}
      isSending=${isSending} onApply=${apply} onClose=${onClose} /><//>`;
}

// Whether a change has been made already, perhaps by somebody else while the dialog was open.
function inForce({ action, share }, override) {
  if (action === "restore") return override === null;
  return override?.action === action && (action !== "drain" || override.share === share);
}

// Whether not even the time or the reason would be another one.
function changesNothing(change, override) {
  if (!inForce(change, override)) return false;
  const reason = change.reason.trim();
  return change.action === "restore"
    || (change.for === "" && override.until === null && (reason === "" || reason === override.reason));
}

// Whether a change was refused because the token that was typed may no longer make any.
async function isViewer({ status }) {
  if (status !== 403) return false;
  try {
    const self = await node.whoami();
    update({ self });
    return !canChange(self);
  } catch {
    return false;
  }
}

function Form({ subject, change, onChange, override, isInForce, reply, refusal, isSending, onApply, onClose }) {
  const at = useStore((state) => state.at);
  const { target, action, overrideSafety } = change;
  const { plan, problem } = reply;
  const isRefused = Boolean(plan?.refused || refusal?.isSafety);
  const set = (name) => (event) => onChange({ ...change, [name]: event.target.value });
  const submit = (event) => {
    event.preventDefault();
    onApply();
  };
  return html`<form class="act-form" onSubmit=${submit}>
    <div role="status">${(override || isInForce) && html`<p class="note">${known(change, override, at)}</p>`}</div>
    ${subject.service && html`<${RegionChoice} service=${subject.service} target=${target}
      onChoose=${(chosen) => onChange({ ...change, target: chosen, action: action === "restore" ? "drain" : action })} />`}
    <fieldset class="actions"><legend>Action</legend>
      ${Object.entries(ACTIONS).filter(([name]) => name !== "restore" || override || action === "restore").map(([name, { verb, means }]) => html`
        <label key=${name}><input type="radio" name="action" value=${name} checked=${name === action} data-first=${name === action || undefined}
          onChange=${set("action")} /><span><strong>${verb}</strong> <span class="quiet">${means}</span></span></label>`)}
    </fieldset>
    ${action !== "restore" && html`<${Fields} change=${change} set=${set} />`}
    ${isInForce ? html`<section class="plan" aria-label="Whom it moves"><p><strong>It moves no clients</strong>, for it is so already.</p></section>`
      : html`<${Plan} plan=${plan} problem=${problem} />`}
    <div aria-live="polite">${refusal && html`<p class="note bad">${sentence(refusal.message)}</p>`}</div>
    ${isRefused && html`<label class="safety"><input type="checkbox" checked=${overrideSafety}
      onChange=${() => onChange({ ...change, overrideSafety: !overrideSafety })} /> Do it though a safety rule forbids it (role admin)</label>`}
    <footer>
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="submit" class=${overrideSafety ? "danger" : "primary"} disabled=${isSending || (isRefused && !overrideSafety)}
        aria-disabled=${changesNothing(change, override)}>
        ${ACTIONS[action].verb} ${target}</button>
    </footer>
  </form>`;
}

// What is to be known of the target before it is changed.
function known(change, override, at) {
  if (!override) return "It has no override any more: nothing is left to do.";
  const what = `${overrideState(override)} ${overrideOrigin(override, at)}`;
  if (changesNothing(change, override)) return `It is already ${what}: nothing is left to do.`;
  return inForce(change, override) ? `It is already ${what}. Only the time and the reason would change.` : `It is ${what}.`;
}

const RegionChoice = ({ service, target, onChoose }) => html`<label>Region
  <select value=${target} onChange=${(event) => onChoose(event.target.value)}>
    ${service.regions.map(({ name }) => html`<option value=${targetIn(service, name)}>${name}</option>`)}
  </select></label>`;

const Fields = ({ change, set }) => html`<div class="fields">
  ${change.action === "drain" && html`<label>Share of its clients
    <select value=${change.share} onChange=${set("share")}>${SHARES.map((share) => html`<option>${share}</option>`)}</select></label>`}
  <label>For
    <select value=${change.for} onChange=${set("for")}>${TIMES.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select></label>
  <label class="wide">Reason
    <input value=${change.reason} maxlength="200" placeholder="new kernel" onInput=${set("reason")} /></label>
</div>`;

// As the node writes it.
export const targetIn = (service, region) => `service/${shortName(service.name)}/${region}`;

// What the change would do, asked for whenever that may be something else, unless it is made.
function usePlan({ target, action, share }, isMade) {
  const [reply, setReply] = useState({});
  const service = useStore((state) => state.service);
  const epoch = useStore((state) => state.status?.node.epoch);
  useEffect(() => {
    if (isMade) return undefined;
    const gone = new AbortController();
    const change = action === "restore" ? { restore: target }
      : { target, action, ...(action === "drain" && share !== "100%" && { share }) };
    const timer = setTimeout(() => node.plan({ ...change, ...(service && { map: service }) }, gone.signal).then(
      (plan) => setReply({ plan }),
      (problem) => gone.signal.aborted || setReply({ problem }),
    ), PAUSE);
    return () => {
      clearTimeout(timer);
      gone.abort();
    };
  }, [target, action, share, service, epoch, Boolean(isMade)]);
  return reply;
}

// Has the chart show the plan as long as the dialog does, and then until the change is there.
function usePreview({ target, action, share }, plan, done) {
  useEffect(() => {
    update({ preview: plan ? { target, action, share, plan, madeIn: done?.epoch ?? null } : null });
  }, [plan, done]);
  useEffect(() => () => update({ preview: null }), []);
}

function send({ target, action, share, for: time, reason, overrideSafety }, override) {
  if (action === "restore") return node.restore(override.id, overrideSafety);
  return node.override({
    target, action, override_safety: overrideSafety,
    ...(action === "drain" && { share }), ...(time && { for: time }), ...(reason.trim() && { reason: reason.trim() }),
  });
}

function Done({ done, action, onClose }) {
  const at = useStore((state) => state.at);
  const { override, no_effect: noEffect, not_durable: notDurable, epoch } = done;
  const what = action === "restore" ? `The override of ${override.target} is removed`
    : `${override.target} is ${overrideState(override)} ${overrideOrigin(override, at)}`;
  return html`<${Dialog} title="Done" onClose=${onClose} beside>
    <p role="status">${what}, from epoch ${epoch} on.</p>
    ${noEffect && html`<p class="note">${sentence(noEffect)}.</p>`}
    ${notDurable && html`<p class="note">${sentence(notDurable)}.</p>`}
    <footer><button class="primary" data-first onClick=${onClose}>Close</button></footer>
  <//>`;
}
