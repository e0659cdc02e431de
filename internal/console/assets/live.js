// Live tail: the page's rows get those that the server sends (server-sent events, about one a second), the newest on top. Where no event
// arrives, because a proxy cuts or keeps them, the page is fetched again every few seconds instead.

const maxRows = 500;
const silence = 15000; // the server says something every five seconds
const cutsUntilPolling = 3;

const live = document.getElementById('live');
const body = live.querySelector('tbody');
const model = document.getElementById('live-row').content.firstElementChild;
const status = document.getElementById('live-status');
const texts = live.dataset;
const button = document.createElement('button');
let paused = false;
let kept = []; // what came during a pause
let cuts = 0;
let stream;
let timer;

button.type = 'button';
button.className = 'pause';
button.addEventListener('click', () => {
  paused = !paused;
  label();
  if (!paused) {
    kept.forEach(show);
    kept = [];
  }
});
status.after(button);
label();
connect();

function label() {
  button.textContent = paused ? texts.resume : texts.pause;
  button.setAttribute('aria-pressed', String(paused));
  status.textContent = paused ? texts.paused : texts.connected;
}

function connect() {
  status.textContent = texts.connecting;
  stream = new EventSource(texts.stream);
  stream.onmessage = (event) => {
    cuts = 0;
    listen();
    if (!paused) status.textContent = texts.connected;
    const batch = JSON.parse(event.data);
    if (!paused) show(batch);
    else kept = kept.concat(batch).slice(-maxRows);
  };
  stream.onopen = () => { if (!paused) status.textContent = texts.connected; };
  stream.onerror = cut; // the browser connects again on its own, unless the answer was none of a stream
  listen();
}

function listen() {
  clearTimeout(timer);
  timer = setTimeout(() => { cuts = cutsUntilPolling; cut(); }, silence);
}

function cut() {
  cuts += 1;
  if (!paused) status.textContent = texts.again;
  if (cuts < cutsUntilPolling && stream.readyState !== EventSource.CLOSED) return;
  stream.close();
  clearTimeout(timer);
  button.remove(); // refresh.js has its own
  status.textContent = texts.polling;
  live.dataset.refresh = '3';
  live.dispatchEvent(new Event('refresh', { bubbles: true }));
}

function show(batch) {
  document.getElementById('live-none')?.remove();
  if (batch.more) {
    const row = body.insertRow(0);
    const cell = row.insertCell();
    cell.colSpan = 7;
    cell.className = 'dim';
    cell.textContent = batch.more;
  }
  for (const line of batch.lines.reverse()) body.prepend(rowOf(line));
  while (body.rows.length > maxRows) body.lastElementChild.remove();
}

function rowOf(line) {
  const row = model.cloneNode(true);
  const time = row.querySelector('time');
  time.dateTime = line.ISO;
  time.textContent = line.Time;
  row.querySelector('a').href = `/console/deliveries/${line.ID}`;
  row.querySelector('.badge').classList.add(line.Badge.Kind);
  const parts = { ...line, Icon: line.Badge.Icon, Outcome: line.Badge.Text };
  for (const part of row.querySelectorAll('[data-part]')) part.textContent = parts[part.dataset.part];
  return row;
}
