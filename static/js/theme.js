// Runs before the first paint, so that a chosen theme never flashes the other one.
(function () {
  "use strict";
  var root = document.documentElement;
  root.setAttribute("data-js", "");
  try {
    var theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.setAttribute("data-theme", theme);
  } catch (error) {
    // Storage is forbidden here: the system's theme stands.
  }
})();
