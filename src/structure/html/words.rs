//! The names that make markup and script active. Sorted, for the binary search; lower case.

/// Whether `list` holds `word`, whatever its case.
pub(super) fn holds(list: &[&str], word: &[u8]) -> bool {
    let mut lower = [0; 24];
    let Some(lower) = lower.get_mut(..word.len()) else {
        return false;
    };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    // Nearly always the first letter decides, without a call.
    list.binary_search_by(|known| {
        let known = known.as_bytes();
        known
            .first()
            .cmp(&lower.first())
            .then_with(|| known.cmp(lower))
    })
    .is_ok()
}

/// Elements that load or restyle something by their mere presence with an attribute.
#[rustfmt::skip]
pub(super) const ACTIVE: &[&str] = &[
    "animate", "animatemotion", "animatetransform", "applet", "base", "bgsound", "embed",
    "frame", "frameset", "iframe", "ilayer", "isindex", "layer", "link", "meta", "object",
    "portal", "set", "xml",
];

/// Elements whose end tag leaves a text in which markup means nothing.
#[rustfmt::skip]
pub(super) const RAW: &[&str] = &[
    "iframe", "noembed", "noscript", "script", "style", "template", "textarea", "title",
    "xmp",
];

/// All other elements of HTML: markup, but nothing to run.
#[rustfmt::skip]
pub(super) const PLAIN: &[&str] = &[
    "a", "abbr", "acronym", "address", "area", "article", "aside", "audio", "b", "bdi",
    "bdo", "big", "blink", "blockquote", "body", "br", "button", "canvas", "caption",
    "center", "cite", "code", "col", "colgroup", "dd", "del", "details", "dfn", "dialog",
    "dir", "div", "dl", "dt", "em", "fieldset", "figcaption", "figure", "font", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "i", "img",
    "input", "ins", "kbd", "label", "legend", "li", "main", "map", "mark", "marquee",
    "math", "menu", "nav", "nobr", "noscript", "ol", "optgroup", "option", "p", "param",
    "picture", "plaintext", "pre", "q", "s", "samp", "section", "select", "slot", "small",
    "source", "span", "strike", "strong", "sub", "summary", "sup", "svg", "table", "tbody",
    "td", "template", "textarea", "tfoot", "th", "thead", "title", "tr", "track", "tt", "u",
    "ul", "var", "video", "wbr", "xmp",
];

/// How the names of event handlers go on after `on`.
#[rustfmt::skip]
pub(super) const EVENTS: &[&str] = &[
    "abort", "activate", "after", "anim", "auxclick", "before", "begin", "blur", "bounce",
    "cancel", "canplay", "cellchange", "change", "click", "close", "command", "contentvis",
    "contextmenu", "controlselect", "copy", "cuechange", "cut", "data", "dblclick",
    "deactivate", "device", "drag", "drop", "durationchange", "emptied", "end", "error",
    "filterchange", "finish", "focus", "form", "fullscreen", "gesture", "gotpointer",
    "hashchange", "help", "input", "invalid", "key", "languagechange", "layoutcomplete",
    "load", "losecapture", "lostpointer", "media", "message", "mouse", "move", "mutation",
    "offline", "online", "orientation", "outofsync", "page", "paste", "pause", "play",
    "pointer", "popstate", "progress", "propertychange", "ratechange", "readystate", "redo",
    "rejection", "repeat", "reset", "resize", "resume", "reverse", "row", "scroll",
    "search", "securitypolicy", "seek", "select", "show", "slotchange", "stalled", "start",
    "stop", "storage", "submit", "suspend", "syncrestored", "time", "toggle", "touch",
    "trackchange", "transition", "undo", "unhandled", "unload", "url", "visibility",
    "volumechange", "waiting", "webkit", "wheel", "zoom",
];

/// Functions with which a script shows that it runs.
#[rustfmt::skip]
pub(super) const DIALOGS: &[&str] = &[
    "alert", "confirm", "prompt",
];

/// Functions that turn text into code or carry data off.
#[rustfmt::skip]
pub(super) const SINKS: &[&str] = &[
    "atob", "eval", "execscript", "fetch", "fromcharcode", "function", "getscript",
    "import", "importscripts", "insertadjacenthtml", "msgbox", "sendbeacon", "setimmediate",
    "setinterval", "settimeout", "showmodaldialog", "unescape", "write", "writeln",
    "xmlhttprequest",
];

/// Words of a script that another word follows or precedes.
#[rustfmt::skip]
pub(super) const KEYWORDS: &[&str] = &[
    "async", "await", "case", "class", "const", "default", "delete", "else", "export",
    "extends", "from", "function", "get", "import", "in", "instanceof", "let", "new", "of",
    "return", "set", "static", "throw", "typeof", "using", "var", "void", "yield",
];

/// Objects that a script in a page starts from.
#[rustfmt::skip]
pub(super) const ROOTS: &[&str] = &[
    "constructor", "content", "document", "frames", "globalthis", "location", "parent",
    "self", "string", "this", "top", "window",
];

/// Members of those that only a script asks for.
#[rustfmt::skip]
pub(super) const MEMBERS: &[&str] = &[
    "alert", "assign", "body", "confirm", "constructor", "cookie", "createelement", "documentelement",
    "domain", "eval", "execcommand", "forms", "fromcharcode", "getelementbyid",
    "getelementsbytagname", "hash", "head", "href", "innerhtml", "location", "onerror",
    "open", "prompt", "queryselector", "replace", "scripts", "setinterval", "settimeout",
    "write", "writeln",
];

#[cfg(test)]
#[test]
fn the_lists_are_sorted_and_fit() {
    let lists = [
        ACTIVE, RAW, PLAIN, EVENTS, DIALOGS, SINKS, KEYWORDS, ROOTS, MEMBERS,
    ];
    for list in lists {
        assert!(list.windows(2).all(|w| w[0] < w[1]), "{list:?}");
        assert!(list.iter().all(|word| word.len() <= 24));
        assert!(holds(list, list[0].to_ascii_uppercase().as_bytes()));
    }
    assert!(!holds(PLAIN, b"string"));
}
