//! Blocks as one HTML file that needs nothing besides itself: no font, no picture, no script from
//! elsewhere. A content security policy names the one script and the one style by their hashes, so
//! that nothing else could run even if a text were not escaped. Without the script all is there but
//! the search box.

use data_encoding::BASE64;
use ring::digest::{SHA256, digest};

use super::{
    block::{Block, Line, Piece, Table},
    flow::escape,
};

const STYLE: &str = concat!(include_str!("page.css"), include_str!("flow.css"));
const SCRIPT: &str = include_str!("page.js");

/// A connector's part of the page.
pub struct Article {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What the search box finds it by, besides its fields.
    pub words: Vec<String>,
    /// What it says; the first block is its heading.
    pub blocks: Vec<Block>,
}

/// The page.
pub fn html(title: &str, articles: &[Article]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; \
         script-src '{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the connectors</a>\n",
        hash(STYLE),
        hash(SCRIPT),
        escape(title),
    );
    out.push_str(&format!(
        "<header>\n<h1>{}</h1>\n<form role=\"search\" hidden>\n<label for=\"find\">Find connectors and fields</label>\n\
         <input id=\"find\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\">\n\
         <output id=\"found\" for=\"find\" aria-live=\"polite\"></output>\n</form>\n\
         <nav aria-label=\"Connectors\">\n<ul>\n",
        escape(title)
    ));
    for article in articles {
        let name = escape(&article.name);
        out.push_str(&format!("<li><a href=\"#c-{name}\">{name}</a></li>\n"));
    }
    out.push_str("</ul>\n</nav>\n</header>\n<main id=\"main\">\n");
    for article in articles {
        let mut writer = Writer { out: &mut out, id: format!("c-{}", article.name), pictures: 0 };
        writer.article(article);
    }
    out.push_str(&format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"));
    out
}

fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref()))
}

struct Writer<'o> {
    out: &'o mut String,
    id: String,
    pictures: usize,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn article(&mut self, article: &Article) {
        let id = escape(&self.id);
        let words = escape(&article.words.join(" "));
        self.push(&format!(
            "<article id=\"{id}\" aria-labelledby=\"{id}-h\" data-find=\"{words}\">\n"
        ));
        for (at, block) in article.blocks.iter().enumerate() {
            match block {
                Block::Heading(_, line) if at == 0 => {
                    self.push(&format!("<h2 id=\"{id}-h\">{}</h2>\n", inline(line)));
                }
                block => self.block(block),
            }
        }
        self.push("</article>\n");
    }

    fn block(&mut self, block: &Block) {
        match block {
            // The page's own heading is the first one.
            Block::Heading(level, line) => {
                let level = (level + 1).min(6);
                self.push(&format!("<h{level}>{}</h{level}>\n", inline(line)));
            }
            Block::Paragraph(line) => self.push(&format!("<p>{}</p>\n", inline(line))),
            Block::List(items) => self.list("ul", items),
            Block::Steps(items) => self.list("ol", items),
            Block::Facts { title, rows } => self.facts(title, rows),
            Block::Table(table) => self.table(table),
            Block::Commands(lines) => {
                self.push(&format!("<pre><code>{}</code></pre>\n", escape(&lines.join("\n"))));
            }
            Block::Literal(text) => self.push(&format!("<pre>{}</pre>\n", escape(text))),
            Block::Picture(flow) => {
                self.pictures += 1;
                let id = format!("{}-f{}", escape(&self.id), self.pictures);
                self.push(&format!("<figure>\n{}</figure>\n", flow.svg(&id)));
            }
        }
    }

    fn list(&mut self, tag: &str, items: &[Line]) {
        self.push(&format!("<{tag}>\n"));
        for item in items {
            self.push(&format!("<li>{}</li>\n", inline(item)));
        }
        self.push(&format!("</{tag}>\n"));
    }

    fn facts(&mut self, title: &str, rows: &[(String, Line)]) {
        self.push(&format!(
            "<table class=\"facts\">\n<caption>{}</caption>\n<tbody>\n",
            escape(title)
        ));
        for (name, value) in rows {
            self.push(&format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                escape(name),
                inline(value)
            ));
        }
        self.push("</tbody>\n</table>\n");
    }

    fn table(&mut self, table: &Table) {
        let caption = escape(&table.caption);
        // What is wider than the screen is scrolled with the keyboard, too.
        self.push(&format!(
            "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>\n\
             <caption>{caption}</caption>\n<thead>\n<tr>"
        ));
        for name in &table.head {
            self.push(&format!("<th scope=\"col\">{}</th>", escape(name)));
        }
        self.push("</tr>\n</thead>\n<tbody>\n");
        let row_tag = if table.is_searched { "<tr data-field>" } else { "<tr>" };
        for row in &table.rows {
            self.push(row_tag);
            for (at, cell) in row.iter().enumerate() {
                let cell = inline(cell);
                self.push(&match at {
                    0 => format!("<th scope=\"row\">{cell}</th>"),
                    _ => format!("<td>{cell}</td>"),
                });
            }
            self.push("</tr>\n");
        }
        self.push("</tbody>\n</table>\n</div>\n");
    }
}

fn inline(line: &Line) -> String {
    let pieces = line.0.iter().map(|piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::Code(code) => format!("<code>{}</code>", escape(code)),
        Piece::Strong(text) => format!("<strong>{}</strong>", escape(text)),
        Piece::Mark(word) => format!("<span class=\"mark\">{}</span>", escape(word)),
        Piece::Link { text, url } => {
            format!("<a href=\"{}\" rel=\"noreferrer\">{}</a>", escape(url), escape(text))
        }
    });
    pieces.collect()
}
