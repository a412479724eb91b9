// What pages do beyond links and forms, all of which work without this file.

// Times in the reader's own zone.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}

function copyButtons(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    });
  }
}

// A span clicked in the tree is laid open beside it, without losing one's place in the tree.
function spanLinks() {
  const panel = document.getElementById("span");
  if (!panel) return;
  let asked = null;
  let shown = location.pathname;
  for (const link of document.querySelectorAll("[data-span]")) {
    link.addEventListener("click", async (event) => {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      asked = link;
      const address = `/spans/${link.dataset.span}`;
      try {
        const answer = await fetch(`${address}?part=panel`);
        if (!answer.ok) throw new Error(answer.statusText);
        const html = await answer.text();
        if (asked !== link) return;
        panel.innerHTML = html;
      } catch {
        location.href = link.href;
        return;
      }
      localTimes(panel);
      copyButtons(panel);
      panel.scrollTop = 0;
      document.querySelector("[data-status]").textContent = `${link.textContent} is shown`;
      for (const old of document.querySelectorAll("[data-span][aria-current]")) {
        old.removeAttribute("aria-current");
        old.closest(".row").classList.remove("current");
      }
      link.setAttribute("aria-current", "true");
      link.closest(".row").classList.add("current");
      history.pushState(null, "", address);
      shown = address;
      if (getComputedStyle(panel).position === "static") panel.scrollIntoView();
    });
  }
  addEventListener("popstate", () => {
    if (location.pathname !== shown) location.reload();
  });
}

function treeTools() {
  for (const tools of document.querySelectorAll("[data-tools]")) {
    tools.hidden = false;
    for (const button of tools.querySelectorAll("[data-open]")) {
      button.addEventListener("click", () => {
        const open = button.dataset.open === "yes";
        for (const details of document.querySelectorAll(".tree details")) details.open = open;
      });
    }
  }
}

// What is still running is read again every few seconds, while somebody looks.
function liveParts() {
  if (!document.querySelector("[data-live]")) return;
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector(".live");
      if (!fresh) return;
      localTimes(fresh);
      document.querySelector(".live").replaceWith(fresh);
      if (!fresh.hasAttribute("data-live")) {
        clearInterval(timer);
        location.reload();
      }
    } catch {
      clearInterval(timer);
    }
  }, 3000);
}

localTimes(document);
copyButtons(document);
spanLinks();
treeTools();
liveParts();
