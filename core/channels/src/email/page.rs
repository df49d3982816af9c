//! The mail and the page behind its link: plain HTML without script or style, so that the strictest content security
//! policy holds.

use countersign_sdk::question::Question;

pub(super) fn text(question: &Question, url: &str) -> String {
    let mut text = format!("{}\n\n{}", question.title, many(question));
    for fact in &question.facts {
        text.push_str(&format!("{}: {}\n", fact.label, fact.text));
    }
    text.push_str(&format!("\n{}\n", question.parameters.join("\n")));
    if !question.prior.is_empty() {
        text.push_str(&format!("\nBefore this:\n{}\n", question.prior.join("\n")));
    }
    text.push_str(&format!("\nLook and answer: {url}\n\n{}\n", silence(question)));
    text
}

pub(super) fn mail(question: &Question, url: &str) -> String {
    let link = format!("<p><a href=\"{}\">Look and answer</a></p>", escape(url));
    document(&question.title, &format!("{}{link}", facts(question)))
}

pub(super) fn question(question: &Question, token: &str) -> String {
    let form = format!(
        "<form method=\"post\"><input type=\"hidden\" name=\"token\" value=\"{}\">\
         <p><label for=\"comment\">Comment</label><br>\
         <textarea id=\"comment\" name=\"comment\" rows=\"3\" cols=\"60\" maxlength=\"1000\"></textarea></p>\
         <p><button name=\"answer\" value=\"approve\">Approve</button> \
         <button name=\"answer\" value=\"deny\">Deny</button></p></form>",
        escape(token)
    );
    document(&question.title, &format!("{}{form}", facts(question)))
}

pub(super) fn notice(title: &str, text: &str) -> String {
    document(title, &format!("<p>{}</p>", escape(text)))
}

fn facts(question: &Question) -> String {
    let mut html = format!("<p>{}{}</p><dl>", escape(&many(question)), escape(&silence(question)));
    for fact in &question.facts {
        html.push_str(&format!("<dt><b>{}</b></dt><dd>{}</dd>", escape(fact.label), escape(&fact.text)));
    }
    html.push_str("</dl>");
    for parameters in &question.parameters {
        html.push_str(&format!("<pre>{}</pre>", escape(parameters)));
    }
    if !question.prior.is_empty() {
        html.push_str(&format!("<p>Before this:</p><pre>{}</pre>", escape(&question.prior.join("\n"))));
    }
    html
}

fn many(question: &Question) -> String {
    if question.count < 2 {
        return String::new();
    }
    format!("{} alike requests; one answer covers these, and none later. ", question.count)
}

fn silence(question: &Question) -> String {
    format!("Without an answer by {} it is denied.", question.expires_at)
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">\
         <title>{title}</title></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
