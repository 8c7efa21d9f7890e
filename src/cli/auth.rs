//! `tenon auth`: logging in for a connector, and how logins stand.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::{Exit, Outcome, Trouble, block_on, client::Daemon, render};
use crate::admin::api::{LoginBegin, LoginBegun, LoginFinish, LoginFinished, LoginList};

/// How long a browser may take to send its request.
const READ_TIME: Duration = Duration::from_secs(5);
/// A redirect is longer than a page's address and shorter than this.
const LONGEST_REQUEST_BYTES: usize = 16 << 10;
/// A little less than the daemon's patience.
const PATIENCE: Duration = Duration::from_secs(590);

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Log in for a connector: prints a page to open, waits for it to come back
    #[command(
        after_help = "The page redirects to this machine (127.0.0.1), where this command waits up to ten\n\
                            minutes. Where the provider wants the redirect registered, register\n\
                            http://127.0.0.1:PORT/callback and give --port. The daemon redeems the code, stores\n\
                            the tokens and lifts the connector's holds; none of it passes through this command."
    )]
    Login(LoginArgs),
    /// Show who has to log in
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub struct LoginArgs {
    /// The connector
    connector: String,
    /// Its [auth.NAME] table, where several take a login
    auth: Option<String>,
    /// Where the page redirects to; any free port otherwise
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(args: &Args) -> Outcome {
    match args {
        Args::Login(args) => block_on(login(args)),
        Args::Status(args) => block_on(status(args)),
    }
}

async fn status(args: &StatusArgs) -> Outcome {
    let list: LoginList = args.daemon.get("/api/v1/auth").await?;
    if args.json {
        render::json(&list)?;
    } else if list.logins.is_empty() {
        render::note("no connector needs a person to log in");
    } else {
        let lines = list.logins.iter().map(|login| {
            let what = match (login.state.as_str(), &login.expires_at, &login.message) {
                ("logged_in", Some(at), _) => format!("logged in until {}", at.rfc3339()),
                ("logged_in", None, _) => "logged in".to_owned(),
                (_, _, Some(message)) => message.clone(),
                (_, Some(at), None) => format!(
                    "the login ended at {}: run `tenon auth login {} {}`",
                    at.rfc3339(),
                    login.connector,
                    login.auth
                ),
                _ => format!("run `tenon auth login {} {}`", login.connector, login.auth),
            };
            format!("{}  {}  {what}\n", login.connector, login.auth)
        });
        render::text(&lines.collect::<String>())?;
    }
    let all = list.logins.iter().all(|login| login.state == "logged_in");
    Ok(if all { Exit::Fine } else { Exit::Findings })
}

async fn login(args: &LoginArgs) -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await.map_err(|error| {
        Trouble::new(format!("cannot listen on 127.0.0.1:{}: {error}", args.port))
    })?;
    let redirect = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
    let begin = LoginBegin { connector: args.connector.clone(), auth: args.auth.clone(), redirect };
    let begun: LoginBegun = args.daemon.post("/api/v1/auth/begin", &begin).await?;
    render::note("open this page, and log in there:");
    render::text(&format!("{}\n", begun.url))?;
    let waiting = tokio::time::timeout(PATIENCE, redirected(&listener, &begun.url));
    let Ok(redirected) = waiting.await else {
        return Err(Trouble::new("nobody logged in within ten minutes"));
    };
    let (mut socket, answer) = redirected?;
    let finished = match answer {
        Err(message) => Err(Trouble::new(message)),
        Ok((code, state, issuer)) => {
            let (connector, auth) = (args.connector.clone(), begun.auth.clone());
            let finish = LoginFinish { connector, auth, code, state, issuer };
            args.daemon.post("/api/v1/auth/finish", &finish).await.map_err(Trouble::from)
        }
    };
    let said = match &finished {
        Ok(_) => "You are logged in. This page can be closed.",
        Err(_) => "That did not work: the terminal says why. This page can be closed.",
    };
    respond(&mut socket, "200 OK", said).await;
    let LoginFinished { resumed } = finished?;
    let held = match resumed {
        0 => String::new(),
        count => format!(", {} lifted", render::counted(count as u64, "hold")),
    };
    render::note(&format!("logged in: auth {} of `{}`{held}", begun.auth, args.connector));
    Ok(Exit::Fine)
}

/// Code, state, issuer; or what the page says instead.
type Answer = Result<(String, String, Option<String>), String>;

/// Waits for the redirect of this login. What else comes (a browser's icon, somebody else's redirect)
/// is sent away.
async fn redirected(listener: &TcpListener, page: &str) -> Result<(TcpStream, Answer), Trouble> {
    let state = Url::parse(page).ok().and_then(|url| parameter(&url, "state"));
    loop {
        let (mut socket, _) = listener.accept().await?;
        let reading = tokio::time::timeout(READ_TIME, target(&mut socket)).await;
        let Ok(Some(target)) = reading else { continue };
        let url = Url::parse("http://127.0.0.1").and_then(|base| base.join(&target)).ok();
        let Some(url) = url.filter(|url| url.path() == "/callback") else {
            respond(&mut socket, "404 Not Found", "There is nothing here.").await;
            continue;
        };
        if state.is_none() || parameter(&url, "state") != state {
            respond(&mut socket, "400 Bad Request", "This belongs to another login.").await;
            continue;
        }
        if let Some(error) = parameter(&url, "error") {
            let more = parameter(&url, "error_description").map(|it| format!(": {it}"));
            let message = format!("the page says {error}{}", more.unwrap_or_default());
            return Ok((socket, Err(message.chars().filter(|c| !c.is_control()).collect())));
        }
        if let (Some(code), Some(state)) = (parameter(&url, "code"), state.clone()) {
            return Ok((socket, Ok((code, state, parameter(&url, "iss")))));
        }
        respond(&mut socket, "400 Bad Request", "There is no code in this.").await;
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// Path and query of a GET.
async fn target(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > LONGEST_REQUEST_BYTES || socket.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.lines().next()?.split(' ');
    (words.next() == Some("GET")).then(|| words.next().map(str::to_owned)).flatten()
}

/// A browser that has gone misses a page, nothing else.
async fn respond(socket: &mut TcpStream, status: &str, said: &str) {
    let page =
        format!("<!doctype html><meta charset=\"utf-8\"><title>Tenon</title><p>{said}</p>\n");
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    socket.write_all(text.as_bytes()).await.ok();
    socket.shutdown().await.ok();
}
