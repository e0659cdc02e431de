// What pages do beyond links and forms. Without this module a page is as it was when it was loaded.

// Partial refresh: <div id="x" data-refresh="5"> is fetched again every 5 seconds, from the page's own address, and replaced by the element of the same
// id. It stands still while the tab is hidden, while something inside has the focus, and when its button says so.

const failuresUntilPause = 5;

for (const element of document.querySelectorAll('[data-refresh]')) {
  watch(element.id, Number(element.dataset.refresh) * 1000);
}
document.addEventListener('refresh', (event) => watch(event.target.id, Number(event.target.dataset.refresh) * 1000)); // a tail that is cut

function watch(id, every) {
  const body = document.body.dataset;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'pause';
  let paused = false;
  let failures = 0;
  const label = () => {
    button.textContent = paused ? body.resume : body.pause;
    button.setAttribute('aria-pressed', String(paused));
  };
  button.addEventListener('click', () => { paused = !paused; failures = 0; label(); });
  label();
  document.getElementById(id).before(button);

  setInterval(async () => {
    const shown = document.getElementById(id);
    if (paused || document.hidden || !shown || shown.contains(document.activeElement)) return;
    try {
      const fresh = (await load(location.href)).getElementById(id);
      if (!fresh) throw new Error('signed out');
      shown.replaceWith(document.adoptNode(fresh));
      failures = 0;
    } catch {
      failures += 1;
      paused = failures >= failuresUntilPause;
      label();
    }
  }, every);
}

// load reads a page as a document: XMLHttpRequest parses it without a string that would need a Trusted Types policy.
function load(url) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.responseType = 'document';
    request.open('GET', url);
    request.onload = () => (request.status === 200 && request.response ? resolve(request.response) : reject(new Error(request.statusText)));
    request.onerror = reject;
    request.ontimeout = reject;
    request.timeout = 20000;
    request.send();
  });
}

// Keys: <dialog id="keys"> lists them, and <body data-keys> has them switched on. Enter opens a row, as the step to it has focused its link.

const keys = {
  '/': () => document.querySelector('main [role=search] input:not([type=hidden])')?.focus(),
  j: () => step(1),
  k: () => step(-1),
  r: () => location.reload(),
  p: () => document.querySelector('button.pause')?.click(),
  '?': () => document.getElementById('keys').showModal(),
};

if ('keys' in document.body.dataset) document.addEventListener('keydown', press);

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
  if (event.target.closest('input, textarea, select, dialog')) return; // there it is text, or the dialog's
  event.preventDefault();
  keys[event.key]();
}

// step focuses the link of the next or previous row; the row itself when it has none. Never a button: Enter would press it.
function step(by) {
  const rows = [...document.querySelectorAll('main .list > tbody > tr, main .problems > li')];
  if (!rows.length) return;
  const at = rows.findIndex(row => row.contains(document.activeElement));
  const row = rows[at < 0 ? 0 : Math.min(Math.max(at + by, 0), rows.length - 1)];
  const link = row.querySelector('a[href]');
  if (!link) row.tabIndex = -1;
  (link ?? row).focus();
}
