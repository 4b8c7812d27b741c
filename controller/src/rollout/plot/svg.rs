//! SVG as text: the few elements that a chart needs, with whatever comes from outside escaped.

use std::fmt::Write as _;

/// Colours follow the reader's: dark on light, or light on dark.
const STYLE: &str = "\
.page{fill:#ffffff}.ink{fill:#1b1f24}.soft{fill:#57606a}.grid{stroke:#d8dee4}.axis{stroke:#57606a}\
.treated{stroke:#bf3989;fill:none;stroke-width:2}.treated-dot{fill:#bf3989}\
.controls{stroke:#0969da;fill:none;stroke-width:2;stroke-dasharray:6 3}.controls-dot{fill:#0969da}\
.band{fill:#8250df;fill-opacity:.18;stroke:none}.middle{stroke:#8250df;fill:none;stroke-width:2}.middle-dot{fill:#8250df}\
.zero{stroke:#57606a;stroke-dasharray:2 3}.limit{stroke:#cf222e;stroke-dasharray:8 4}.limit-ink{fill:#cf222e}.wave{stroke:#9a6700;stroke-dasharray:4 4}.wave-ink{fill:#9a6700}\
.decision{stroke:#cf222e;stroke-width:2}.decision-ink{fill:#cf222e}.ring{fill:none;stroke:#cf222e;stroke-width:2}\
text{font:12px system-ui,-apple-system,Segoe UI,Roboto,sans-serif}.title{font-size:16px;font-weight:600}.small{font-size:11px}\
.halo{paint-order:stroke;stroke:#ffffff;stroke-width:5px}\
@media (prefers-color-scheme:dark){\
.page{fill:#0d1117}.halo{stroke:#0d1117}.ink{fill:#e6edf3}.soft{fill:#9198a1}.grid{stroke:#262c36}.axis{stroke:#9198a1}\
.treated{stroke:#f778ba}.treated-dot{fill:#f778ba}.controls{stroke:#58a6ff}.controls-dot{fill:#58a6ff}\
.band{fill:#bc8cff;fill-opacity:.25}.middle{stroke:#bc8cff}.middle-dot{fill:#bc8cff}.zero{stroke:#9198a1}.limit{stroke:#ff7b72}.limit-ink{fill:#ff7b72}\
.wave{stroke:#d29922}.wave-ink{fill:#d29922}.decision{stroke:#ff7b72}.decision-ink{fill:#ff7b72}.ring{stroke:#ff7b72}}";

/// Where a text stands to its place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    /// An empty page with a title for whoever cannot see it.
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escaped(title);
        let mut body = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n"
        );
        put(&mut body, format_args!("<rect class=\"page\" width=\"{width}\" height=\"{height}\"/>"));
        Self { body }
    }

    pub(super) fn text(&mut self, at: (f64, f64), class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let (x, y) = at;
        put(
            &mut self.body,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"),
        );
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        put(
            &mut self.body,
            format_args!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"),
        );
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points = list(points);
        put(&mut self.body, format_args!("<polyline points=\"{points}\" class=\"{class}\"/>"));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], class: &str) {
        let points = list(points);
        put(&mut self.body, format_args!("<polygon points=\"{points}\" class=\"{class}\"/>"));
    }

    /// A dot; what it stands for is shown to whoever points at it.
    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, class: &str, told: &str) {
        let (x, y) = at;
        let told = escaped(told);
        put(
            &mut self.body,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" class=\"{class}\"><title>{told}</title></circle>"
            ),
        );
    }

    pub(super) fn end(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }
}

fn put(body: &mut String, element: std::fmt::Arguments<'_>) {
    if writeln!(body, "{element}").is_err() {
        // A String takes everything; an element that cannot be written would be missing, no more.
        body.push('\n');
    }
}

fn list(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// Text within an element or an attribute. What XML 1.0 cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let mut svg = Svg::new(10.0, 10.0, "a\"><script>");
        svg.text((0.0, 0.0), "ink", Anchor::Start, "<b>&'\u{1b}");
        let text = svg.end();
        assert!(!text.contains("<script>") && !text.contains("<b>") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("&lt;b&gt;&amp;&apos;<"), "{text}");
    }
}
