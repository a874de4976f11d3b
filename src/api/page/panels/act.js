// Draining, forcing and restoring. Before anything is done, the dialog and the chart show whom it moves, and whether a rule forbids it.

import { html, useEffect, useState } from "../lib.js";
import { chooseService, refresh } from "../live.js";
import { node } from "../node.js";
import { update, useStore } from "../store.js";
import { overrideOrigin, overrideState, sentence, shortName } from "../words.js";
import { Dialog, useFocusReturn } from "./dialog.js";
import { Plan } from "./plan.js";
import { TokenForm, canChange, forget } from "./token.js";

const ACTIONS = {
  drain: { verb: "Drain", means: "sends no clients there" },
  up: { verb: "Force up", means: "treats it as up, whatever probes find" },
  down: { verb: "Force down", means: "treats it as down, whatever probes find" },
  restore: { verb: "Restore", means: "removes the override" },
};

const SHARES = ["100%", "75%", "50%", "25%", "10%"];
const TIMES = [["", "until it is restored"], ["15m", "15 minutes"], ["30m", "30 minutes"], ["1h", "1 hour"], ["4h", "4 hours"], ["1d", "1 day"]];

// After the last change of the form, before it is planned.
const PAUSE = 150;

// `subject` is `{ target, override?, service?, action? }`; of a service, its regions are targets.
export function Act({ subject, onClose }) {
  const self = useStore((state) => state.self);
  const [change, setChange] = useState({
    target: subject.target, action: subject.action ?? (subject.override ? "restore" : "drain"),
    share: "100%", for: "", reason: "", overrideSafety: false,
  });
  // Whether a token was missing when the change was sent.
  const [isLocked, setLocked] = useState(false);
  const [refusal, setRefusal] = useState(null);
  const [done, setDone] = useState(null);
  const override = overrideOf(subject, change.target);
  const [isSending, setSending] = useState(false);
  const reply = usePlan(change, isSending || done);
  usePreview(change, reply.plan, done);
  useFocusReturn();
  useEffect(() => {
    if (subject.service) chooseService(subject.service.name);
    // Where the dialog lies over the page, the chart must be above it.
    const block = matchMedia("(max-width: 999px)").matches ? "start" : "nearest";
    document.querySelector(".chart-panel")?.scrollIntoView({ block });
  }, []);

  const apply = async () => {
    setRefusal(null);
    if (!canChange(self)) return setLocked(true);
    setSending(true);
    try {
      setDone(await send(change, override));
      refresh();
    } catch (problem) {
      if (!problem.needsToken) return setRefusal(problem);
      forget();
      setLocked(true);
    } finally {
      setSending(false);
    }
    return undefined;
  };
  if (isLocked && !canChange(self)) {
    return html`<${Dialog} title=${`${ACTIONS[change.action].verb} ${change.target}`} onClose=${onClose} beside>
      <${TokenForm} why="Changes need a token with the role operator or admin, from [control] token of the config. On the node's host, the commands need none: portolan drain, force and restore." forChanges onDone=${() => {}} /><//>`;
  }
  if (done) return html`<${Done} done=${done} action=${change.action} onClose=${onClose} />`;
  const title = subject.service ? `Regions of ${shortName(subject.service.name)}` : change.target;
  return html`<${Dialog} title=${title} onClose=${onClose} beside>
    <${Form} subject=${subject} change=${change} onChange=${setChange} override=${override} reply=${reply} refusal=${refusal} isSending=${isSending}
      onApply=${apply} onClose=${onClose} /><//>`;
}

function overrideOf({ service, override }, target) {
  return service ? service.regions.find(({ name }) => target === targetIn(service, name))?.override : override;
}

function Form({ subject, change, onChange, override, reply, refusal, isSending, onApply, onClose }) {
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
    ${override && html`<p class="note">It is ${overrideState(override)} ${overrideOrigin(override, at)}.</p>`}
    ${subject.service && html`<${RegionChoice} service=${subject.service} target=${target}
      onChoose=${(chosen) => onChange({ ...change, target: chosen, action: action === "restore" ? "drain" : action })} />`}
    <fieldset class="actions"><legend>Action</legend>
      ${Object.entries(ACTIONS).filter(([name]) => name !== "restore" || override).map(([name, { verb, means }]) => html`
        <label key=${name}><input type="radio" name="action" value=${name} checked=${name === action} data-first=${name === action || undefined}
          onChange=${set("action")} /><span><strong>${verb}</strong> <span class="quiet">${means}</span></span></label>`)}
    </fieldset>
    ${action !== "restore" && html`<${Fields} change=${change} set=${set} />`}
    <${Plan} plan=${plan} problem=${problem} />
    <div aria-live="polite">${refusal && html`<p class="note bad">${sentence(refusal.message)}</p>`}</div>
    ${isRefused && html`<label class="safety"><input type="checkbox" checked=${overrideSafety}
      onChange=${() => onChange({ ...change, overrideSafety: !overrideSafety })} /> Do it though a safety rule forbids it (role admin)</label>`}
    <footer>
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="submit" class=${overrideSafety ? "danger" : "primary"} disabled=${isSending || (isRefused && !overrideSafety)}>
        ${ACTIONS[action].verb} ${target}</button>
    </footer>
  </form>`;
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

const targetIn = (service, region) => `service/${service.name}/${region}`;

// What the change would do, asked for whenever that may be something else, until it is made.
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
