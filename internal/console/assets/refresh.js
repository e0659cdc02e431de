// Partial refresh: <div id="x" data-refresh="5"> is fetched again every 5 seconds, from the page's own address, and replaced by the element of the same
// id. It stands still while the tab is hidden, while something inside has the focus, and when its button says so. Without this module the page is as
// it was when it was loaded.

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
