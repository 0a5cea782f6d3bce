// The status page. It shows the last snapshot of /events, which the server sends once per second. All values are set as text,
// never as HTML. Elements are reused, so that focus, selection and scroll positions survive an update.

const SECOND = 1000;
/** Age of the last snapshot after which the page says that its data are old, in milliseconds. */
const OLD = 4 * SECOND;
/** Pause before a new connection if the browser does not connect again by itself. */
const RETRY = 2 * SECOND;
/** The span of the picture of the slots. */
const SPAN = 60 * SECOND;

const MARKS = { ok: "✓", warning: "▲", error: "✕", none: "…" };
const SEVERITIES = { ok: "ok", warning: "attention", error: "problem", none: "unknown" };
/** The kinds of calls. A call that was not sent holds no slot. */
const FAILED_CALL = 1, REFUSED_CALL = 2, UNSENT_CALL = 3;

const element = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en-US");

/** A duration in words, such as "3.2 s" or "2 h 5 min". */
function duration(ms) {
  if (ms < SECOND) return `${Math.round(ms)} ms`;
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1).replace(".0", "")} s`;
  const seconds = Math.floor(ms / SECOND);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Times are in UTC, as in the log and in `leadgate top`.
const iso = (ms) => new Date(ms).toISOString();
/** The time of day without the zone, such as "15:52:07". */
const timeOfDay = (ms) => iso(ms).slice(11, 19);
const clock = (ms) => `${timeOfDay(ms)} UTC`;
const moment = (ms) => `${iso(ms).slice(0, 10)} ${clock(ms)}`;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
function setClass(node, name) {
  if (node.className !== name) node.className = name;
}
function show(node, isShown) {
  node.hidden = !isShown;
}

/** Sets a text with a smaller second line. */
function setLines(node, text, detail) {
  if (!node.firstElementChild) node.replaceChildren(document.createElement("span"), document.createElement("small"));
  setText(node.children[0], text);
  setText(node.children[1], detail);
}

const setFigure = (id, text, detail = "") => setLines(element(id), text, detail);

/** Sets the marks and words of a severity. */
function setSeverity(node, severity) {
  if (node.dataset.severity !== severity) node.dataset.severity = severity;
}

/**
 * Updates the rows of a table. `rows` are lists of cells, each a text, or an object with `text` and optionally `kind` (the class),
 * `title`, `detail` (a second line), `severity` or `onClick`. The first cell is the header of its row. `key` identifies a row.
 */
function setRows(body, rows, key = (_, at) => String(at), empty = "none") {
  if (rows.length === 0) {
    const columns = body.parentElement.querySelectorAll("thead th").length;
    const cell = document.createElement("td");
    cell.colSpan = columns;
    cell.className = "zero";
    cell.textContent = empty;
    const row = document.createElement("tr");
    row.append(cell);
    if (body.dataset.empty !== empty) body.replaceChildren(row);
    body.dataset.empty = empty;
    return;
  }
  if (body.dataset.empty) {
    body.replaceChildren();
    delete body.dataset.empty;
  }
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const focused = document.activeElement;
  rows.forEach((cells, at) => {
    const name = key(cells, at);
    let row = known.get(name);
    known.delete(name);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = name;
      cells.forEach((_, column) => {
        const cell = document.createElement(column === 0 ? "th" : "td");
        if (column === 0) cell.scope = "row";
        row.append(cell);
      });
    }
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
    cells.forEach((cell, column) => setCell(row.children[column], typeof cell === "object" ? cell : { text: cell }));
  });
  known.forEach((row) => row.remove());
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

function setCell(node, { text, kind = "", title = "", detail, onClick, severity }) {
  setClass(node, kind);
  if (node.title !== title) node.title = title;
  if (onClick) {
    let button = node.firstElementChild;
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.className = "row";
      node.append(button);
    }
    button.onclick = onClick;
    setText(button, text);
    return;
  }
  if (severity) {
    if (!node.firstElementChild) node.append(document.createElement("span"), document.createElement("span"));
    setSeverity(node, severity);
    setClass(node.children[0], "mark");
    node.children[0].setAttribute("aria-hidden", "true");
    setText(node.children[0], MARKS[severity]);
    setText(node.children[1], text);
    return;
  }
  if (detail !== undefined) setLines(node, text, detail);
  else setText(node, text);
}

const number = (value, isAlert = false) => ({
  text: count(value),
  kind: `number${value === 0 ? " zero" : isAlert ? " alert" : ""}`,
});
const time = (ms) => (ms === null ? { text: "–", kind: "number zero" } : { text: duration(ms), kind: "number" });

// The verdict

function showVerdict(severity, text, numbers) {
  setSeverity(element("verdict"), severity);
  setText(element("verdict-mark"), MARKS[severity]);
  setText(element("verdict-text"), text);
  const line = element("verdict-numbers");
  while (line.children.length > numbers.length) line.lastElementChild.remove();
  numbers.forEach(([name, value], at) => {
    if (!line.children[at]) {
      const item = document.createElement("span");
      item.append(document.createElement("b"), "");
      line.append(item);
    }
    setText(line.children[at].children[0], value);
    line.children[at].lastChild.nodeValue = ` ${name}`;
  });
  show(line, numbers.length > 0);
}

function showCauses(causes) {
  const list = element("causes");
  causes.forEach(({ cause, severity, text }, at) => {
    let item = list.children[at];
    if (!item) {
      item = document.createElement("li");
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.setAttribute("aria-hidden", "true");
      const words = document.createElement("div");
      words.append(document.createElement("b"), document.createElement("span"));
      item.append(mark, words);
      list.append(item);
    }
    setSeverity(item, severity);
    setText(item.children[0], MARKS[severity]);
    setText(item.children[1].children[0], cause);
    setText(item.children[1].children[1], text);
  });
}

// The process and the list of tenants

function showProcess({ gateway, cluster, at }) {
  setText(element("version"), gateway.version);
  setText(element("uptime"), duration(at - gateway.started));
  setText(element("condition"), gateway.condition);
  setText(element("replicas"), cluster ? `${count(cluster.replicas)}, this is ${cluster.address}` : "1");
}

function showTenants(tenants, select) {
  show(element("tenants"), tenants.length > 1);
  show(element("only-label"), tenants.length > 1);
  const wanted = element("filter").value.trim().toLowerCase();
  const found = tenants.filter((tenant) => tenant.name.toLowerCase().includes(wanted));
  const rows = found.map((tenant) => [
    { text: tenant.name, onClick: () => select(tenant.name) },
    { text: `${SEVERITIES[tenant.severity]}: ${tenant.text}`, kind: "status wrap", severity: tenant.severity },
    tenant.slots === null
      ? { text: "–", kind: "number zero" }
      : { text: `${count(tenant.slots.used)} of ${count(tenant.slots.limit)}`, kind: "number" },
    tenant.slots === null ? { text: "–", kind: "number zero" } : number(tenant.waiting),
    time(tenant.oldest_ms),
    number(tenant.failed, true),
    tenant.owner,
  ]);
  setRows(element("tenant-rows"), rows, ([name]) => name.text, "no tenant of this name");
  for (const row of element("tenant-rows").children) {
    if (row.dataset.key === shown) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  const problems = tenants.filter((tenant) => tenant.severity !== "ok").length;
  setText(
    element("tenants-note"),
    `${count(found.length)} of ${count(tenants.length)} tenants, ${problems === 0 ? "none" : count(problems)} with a problem`,
  );
}

// One tenant

function showTenant(tenant, verdict) {
  show(element("tenant"), true);
  setText(element("tenant-name"), tenant.name);
  setText(element("tenant-verdict"), tenant.verdict.text);
  show(element("tenant-verdict"), tenant.verdict.text !== verdict.text);
  show(element("here"), tenant.quota !== null);
  show(element("elsewhere"), tenant.quota === null);
  setText(element("elsewhere"), `Served elsewhere: ${tenant.owner.text}. The status page of that replica has the details.`);
  showOwner(tenant.owner);
  setRows(
    element("configured-callers"),
    tenant.callers.map((caller) => [
      caller.name,
      number(caller.weight),
      caller.calls_per_window === null ? { text: "no maximum", kind: "number zero" } : number(caller.calls_per_window),
      caller.max_criticality,
    ]),
  );
  showSettings(tenant.settings);
  if (tenant.quota !== null) showQuota(tenant);
}

function showQuota(tenant) {
  const { calls, bulk, day, breaker, utilization } = tenant.quota;
  const kept = calls.limit - calls.effective;
  setFigure(
    "calls-used",
    `${count(calls.used)} of ${count(calls.effective)}`,
    `${kept > 0 ? `${count(kept)} of ${count(calls.limit)} kept free` : "the whole limit"}, per ${duration(calls.window_ms)}`,
  );
  setFigure("bulk-used", `${count(bulk.used)} of ${count(bulk.effective)}`, `per ${duration(bulk.window_ms)}`);
  setFigure(
    "free-in",
    calls.free_in_ms === null ? "after a response" : calls.free_in_ms === 0 ? "now" : `in ${duration(calls.free_in_ms)}`,
    `margin ${duration(calls.margin_ms)}`,
  );
  setFigure("utilization", `${Math.round(utilization * 100)} %`, `${count(tenant.quota.grants)} slots granted since the start`);
  setFigure(
    "day",
    day.limit === null ? `${count(day.used)} calls` : `${count(day.used)} of ${count(day.limit)}`,
    [
      day.closed ? "closed by LeadSquared" : day.limit === null ? "no limit set" : `${count(day.remaining)} remain`,
      day.spent_at === null ? "" : `spent at ${clock(day.spent_at)}`,
      `reset at ${clock(day.reset)}`,
    ].filter(Boolean).join(", "),
  );
  setFigure(
    "breaker",
    breaker.state,
    [
      breaker.since === null ? "" : `since ${clock(breaker.since)}`,
      breaker.next_probe_ms === null ? "" : `next probe in ${duration(breaker.next_probe_ms)}`,
    ].filter(Boolean).join(", ") || "calls are sent",
  );
  drawSlots(tenant.slots, calls);
  setRows(element("class-rows"), tenant.queue.classes.map((row) => [row.name, number(row.waiting), time(row.oldest_ms)]));
  setRows(
    element("caller-rows"),
    tenant.queue.callers.map((row) => [row.name, number(row.waiting), time(row.oldest_ms)]),
    undefined,
    "no caller waits",
  );
  setRows(
    element("refusal-rows"),
    [["calls", calls], ["bulk", bulk]].map(([name, window]) => [
      name, number(window.own_refusals, true), number(window.foreign_refusals, true), number(window.holds),
    ]),
  );
  setRows(
    element("batch-rows"),
    tenant.batches.map((row) => [row.lane, number(row.batches), number(row.operations), number(row.saved)]),
    undefined,
    "no batches yet",
  );
  showEndpoints(tenant.endpoints);
  showShares(tenant.shares);
}

function showEndpoints({ rows, span_ms }) {
  setText(element("endpoints-caption"), `Requests of the last ${duration(span_ms)}`);
  setText(element("endpoints-note"), `The last ${duration(span_ms)}. Latency is the time from sending a request to its response or timeout.`);
  setRows(
    element("endpoint-rows"),
    rows.map((row) => [
      row.name,
      time(row.p95_ms),
      number(row.failed, true),
      number(row.requests),
      time(row.p50_ms),
      { text: row.errors.map(([name, times]) => `${name} ${count(times)}`).join(", ") || "–", kind: row.errors.length ? "wrap" : "zero" },
    ]),
    ([name]) => name,
    "no requests in this time",
  );
}

function showShares(shares) {
  const rows = (shares?.states ?? []).map(({ state, shares }) => [state, number(shares, state === "uncertain")]);
  setRows(element("share-rows"), rows, ([state]) => state, shares === null ? "not read yet" : "no shares");
  setText(element("shares-note"), shares === null ? "" : `Counted ${duration(shares.age_ms)} ago.`);
}

function showOwner(owner) {
  show(element("owner-section"), owner.cluster !== null);
  if (owner.cluster === null) return;
  const { epoch, since, last_move, forwarded, failed } = owner.cluster;
  const facts = [
    ["owner", owner.text, since === null ? "" : `since ${moment(since)}`],
    ["epoch", epoch === null ? "–" : count(epoch), ""],
    ["last move", last_move === null ? "none" : last_move.reason, last_move === null ? "" : `${last_move.direction}, ${moment(last_move.at)}`],
    ["forwarded calls", count(forwarded), `${count(failed)} failed`],
  ];
  const list = element("owner");
  facts.forEach(([name, text, detail], at) => {
    if (!list.children[at]) {
      const item = document.createElement("div");
      const value = document.createElement("dd");
      value.append(document.createElement("span"), document.createElement("small"));
      item.append(document.createElement("dt"), value);
      list.append(item);
    }
    setText(list.children[at].children[0], name);
    setText(list.children[at].children[1].children[0], text);
    setText(list.children[at].children[1].children[1], detail);
  });
}

function showSettings(settings) {
  const list = element("settings");
  while (list.children.length > settings.length) list.lastElementChild.remove();
  settings.forEach(([name, value], at) => {
    if (!list.children[at]) {
      const item = document.createElement("div");
      item.append(document.createElement("dt"), document.createElement("dd"));
      list.append(item);
    }
    setText(list.children[at].children[0], name);
    setText(list.children[at].children[1], value);
  });
}

function showErrors(errors, now) {
  const isOnly = element("only").checked;
  const found = errors.filter((error) => !isOnly || error.tenant === shown);
  const rows = found.map((error) => [
    { text: error.reason ?? error.code, detail: error.reason === null ? "" : error.code },
    number(error.count),
    { text: timeOfDay(error.at), title: moment(error.at), kind: "mono" },
    { text: error.method, kind: "wrap" },
    error.caller ?? "–",
    error.tenant ?? "–",
    { text: error.request_id, detail: error.trace_id ?? "no trace", kind: "mono" },
  ]);
  setRows(element("error-rows"), rows, undefined, "no errors since the start");
  const total = found.reduce((sum, error) => sum + error.count, 0);
  setText(element("errors-note"), found.length ? `${count(total)} errors, the last one ${duration(Math.max(0, now - found[0].at))} ago` : "");
}

// The picture of the slots: time from left to right, one row for each slot of the window. A bar is a call, and the light rest is the
// time for which its slot stays held.

/** Gives each call the lowest free row. Returns the calls with `row`, and the number of rows. */
function withRows(calls, windowMs, limit) {
  const freeAt = [];
  const placed = calls.map(([before, took, members, kind]) => {
    const start = -before;
    let row = freeAt.findIndex((free) => free <= start);
    if (row < 0 && freeAt.length < limit) row = freeAt.length;
    // More calls than slots, after the limit has become smaller: the row that becomes free first.
    if (row < 0) row = freeAt.indexOf(Math.min(...freeAt));
    const end = start + took;
    const held = kind === UNSENT_CALL ? end : end + windowMs;
    freeAt[row] = held;
    return { start, end, held, members, kind: kind === UNSENT_CALL ? FAILED_CALL : kind, row };
  });
  return { placed, freeAt };
}

let lastDrawn = null;

function drawSlots(slots, window) {
  lastDrawn = [slots, window];
  const canvas = element("slots");
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (width === 0) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  const styles = getComputedStyle(document.documentElement);
  const color = (name) => styles.getPropertyValue(`--${name}`).trim();
  pen.scale(ratio, ratio);
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const left = 30, right = 8, top = 8, bottom = 22;
  const plotWidth = width - left - right, plotHeight = height - top - bottom;
  const rows = Math.max(window.limit, 1);
  const rowHeight = plotHeight / rows;
  const x = (ms) => left + plotWidth * (1 + Math.max(-SPAN, Math.min(0, ms)) / SPAN);
  const y = (row) => top + plotHeight - (row + 1) * rowHeight;
  const gap = rowHeight >= 5 ? 1 : 0;

  // The grid: a line for each ten seconds, and labels.
  pen.strokeStyle = color("line");
  pen.fillStyle = color("muted");
  pen.lineWidth = 1;
  pen.textBaseline = "alphabetic";
  for (let ms = -SPAN; ms <= 0; ms += 10 * SECOND) {
    pen.beginPath();
    pen.moveTo(Math.round(x(ms)) + 0.5, top);
    pen.lineTo(Math.round(x(ms)) + 0.5, top + plotHeight);
    pen.stroke();
    if (ms % (20 * SECOND) === 0) {
      pen.textAlign = ms === 0 ? "right" : ms === -SPAN ? "left" : "center";
      pen.fillText(ms === 0 ? "now" : `${ms / SECOND} s`, x(ms), height - 6);
    }
  }
  pen.textAlign = "right";
  pen.fillText(String(rows), left - 6, top + 9);
  pen.fillText("1", left - 6, top + plotHeight);

  // The slots that leadgate does not use, by second.
  pen.save();
  pen.beginPath();
  slots.samples.forEach(([before, effective], at) => {
    if (effective >= rows) return;
    const next = slots.samples[at + 1]?.[0] ?? 0;
    pen.rect(x(-before), top, x(-next) - x(-before), (rows - effective) * rowHeight);
  });
  pen.clip();
  pen.strokeStyle = color("reserved");
  for (let at = -height; at < width; at += 6) {
    pen.beginPath();
    pen.moveTo(at, height);
    pen.lineTo(at + height, 0);
    pen.stroke();
  }
  pen.restore();

  const { placed, freeAt } = withRows(slots.calls, window.window_ms + window.margin_ms, rows);
  pen.fillStyle = color("held");
  for (const call of placed) {
    if (call.held > -SPAN) pen.fillRect(x(call.end), y(call.row) + gap / 2, x(call.held) - x(call.end), rowHeight - gap);
  }
  for (const call of placed.filter((call) => call.end > -SPAN)) {
    const from = x(call.start), length = Math.max(x(call.end) - from, 2);
    const up = y(call.row) + gap / 2, thick = Math.max(rowHeight - gap, 1);
    if (call.kind === REFUSED_CALL) {
      const middle = up + thick / 2, arm = Math.min(Math.max(thick / 2, 2.5), 4);
      pen.strokeStyle = color("refused");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(from - arm, middle - arm);
      pen.lineTo(from + arm, middle + arm);
      pen.moveTo(from - arm, middle + arm);
      pen.lineTo(from + arm, middle - arm);
      pen.stroke();
    } else if (call.kind === FAILED_CALL) {
      pen.fillStyle = color("failed");
      for (let at = 0; at < Math.max(length, 7); at += 5) pen.fillRect(from + at, up, 3, thick);
    } else {
      pen.fillStyle = color(call.members > 1 ? "batch" : "call");
      pen.fillRect(from, up, call.members > 1 ? Math.max(length, 4) : length, thick);
      if (call.members > 1 && rowHeight >= 8) {
        pen.textAlign = "left";
        pen.font = "9px system-ui, sans-serif";
        pen.textBaseline = "middle";
        pen.fillText(`×${call.members}`, from + Math.max(length, 4) + 2, up + thick / 2 + 0.5);
      }
    }
  }
  // Calls without a response yet: only their number is known.
  const inProgress = Math.max(0, window.used - freeAt.filter((free) => free > 0).length);
  const vacant = [...Array(rows).keys()].filter((row) => !(freeAt[row] > 0)).slice(0, inProgress);
  pen.strokeStyle = color("call");
  pen.lineWidth = 1;
  for (const row of vacant) pen.strokeRect(x(0) - 6, y(row) + gap / 2 + 0.5, 6, Math.max(rowHeight - gap - 1, 1));

  describeSlots(slots, window, placed, inProgress);
}

function describeSlots(slots, window, placed, inProgress) {
  const recent = placed.filter((call) => call.start > -SPAN);
  const of = (kind) => recent.filter((call) => call.kind === kind).length;
  const batches = recent.filter((call) => call.members > 1);
  const members = batches.reduce((sum, call) => sum + call.members, 0);
  const effective = slots.samples.map(([, value]) => value);
  const kept = effective.length ? window.limit - Math.min(...effective) : 0;
  const parts = [
    `${count(recent.length)} calls`,
    `${count(batches.length)} of them batches with ${count(members)} operations`,
    `${count(of(FAILED_CALL))} failed`,
    `${count(of(REFUSED_CALL))} rate limited`,
    `${count(inProgress)} in progress`,
    kept > 0 ? `up to ${count(kept)} of ${count(window.limit)} slots kept for other integrations` : "all slots usable",
  ];
  setText(element("slots-text"), `Last 60 s: ${parts.join(", ")}.`);
  const canvas = element("slots");
  if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", "Use of the slots over the last 60 seconds");

  const step = 10;
  const rows = [];
  for (let from = 0; from < 60; from += step) {
    const inside = recent.filter((call) => -call.start >= from * SECOND && -call.start < (from + step) * SECOND);
    const together = inside.filter((call) => call.members > 1);
    rows.push([
      `${from} to ${from + step}`,
      number(inside.length),
      number(together.length),
      number(together.reduce((sum, call) => sum + call.members, 0)),
      number(inside.filter((call) => call.kind === FAILED_CALL).length, true),
      number(inside.filter((call) => call.kind === REFUSED_CALL).length, true),
    ]);
  }
  setRows(element("slot-rows"), rows);
}

const redraw = () => lastDrawn && drawSlots(...lastDrawn);
new ResizeObserver(redraw).observe(element("slots"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// The connection

/** The tenant in the address of the page, such as `#acme`. The server chooses one if it is empty or unknown. */
let selected = decodeFragment();
let shown = null;
let source = null;
let snapshot = null;
let receivedAt = 0;
let openedAt = 0;
let retry = null;
let version = null;

function decodeFragment() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function connect() {
  disconnect();
  openedAt = Date.now();
  source = new EventSource(`/events?tenant=${encodeURIComponent(selected === "main" ? "" : selected)}`);
  source.onmessage = ({ data }) => {
    receivedAt = Date.now();
    snapshot = JSON.parse(data);
    // A new release of the gateway has its own page.
    if (version !== null && version !== snapshot.gateway.version) location.reload();
    version = snapshot.gateway.version;
    render();
  };
  // The browser connects again by itself, except after an HTTP status such as 503.
  source.onerror = () => {
    if (source?.readyState === EventSource.CLOSED) retry ??= setTimeout(connect, RETRY);
    showAge();
  };
}

function disconnect() {
  clearTimeout(retry);
  retry = null;
  source?.close();
  source = null;
}

function select(name) {
  if (name === shown) return;
  selected = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  connect();
}

function render() {
  const { verdict, causes, tenants, tenant, errors, at } = snapshot;
  shown = tenant.name;
  showVerdict(verdict.severity, verdict.text, verdict.numbers);
  showCauses(causes);
  showProcess(snapshot);
  showTenants(tenants, select);
  showTenant(tenant, verdict);
  showErrors(errors, at);
  showAge();
  const problem = verdict.severity === "ok" ? "" : `${MARKS[verdict.severity]} `;
  document.title = `${problem}leadgate: ${verdict.text}`;
}

/** Says how old the data are. Old data replace the verdict, since it may be wrong. */
function showAge() {
  const age = Date.now() - receivedAt;
  if (snapshot === null) {
    if (Date.now() - openedAt > OLD) showVerdict("error", "The gateway does not respond. Trying again.", []);
    return;
  }
  const isOld = age > OLD;
  document.body.classList.toggle("old", isOld);
  show(element("causes"), !isOld);
  setText(element("age"), isOld ? `old: from ${clock(receivedAt)}` : "live");
  if (!isOld) return;
  showVerdict("error", `The gateway does not respond. All data are from ${clock(receivedAt)}. Trying again.`, []);
  document.title = `${MARKS.error} leadgate: does not respond`;
}

setInterval(() => {
  showAge();
  // A connection that is open and silent.
  if (!document.hidden && retry === null && Date.now() - Math.max(receivedAt, openedAt) > 2 * OLD) connect();
}, SECOND);

// A hidden page needs no data.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("hashchange", () => {
  const name = decodeFragment();
  if (name !== "main") select(name);
});
for (const id of ["filter", "only"]) element(id).addEventListener("input", () => snapshot && render());
connect();
