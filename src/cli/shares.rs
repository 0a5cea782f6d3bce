//! `leadgate shares`: lists, revokes and exports shares. A client of a running gateway like any other: it never opens the
//! store, which is the gateway's alone.

mod sheet;
mod table;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use leadgate::clock;
use leadgate::grpc::pb;
use pb::share_service_client::ShareServiceClient;
use pb::user_service_client::UserServiceClient;
use pb::{Share, ShareState};
use sheet::{Format, Sheet};
use table::{header, row, word};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::cli::client::{Address, Gateway, explain, note};
use crate::duration;

/// How many shares are asked for at one time.
const PAGE: usize = 500;
/// How many shares are revoked at one time: the quota is for all, and more would only wait for it.
const AT_A_TIME: usize = 16;
/// What every list leaves out.
const SOURCE: &str = "The ledger knows what went through leadgate, and no shares that automations or others have made.";
/// The states in which the user has access, may have it or is to get it.
const LIVE: [ShareState; 6] = [
    ShareState::Pending,
    ShareState::Submitted,
    ShareState::Processing,
    ShareState::Active,
    ShareState::Revoking,
    ShareState::Uncertain,
];

#[derive(Args)]
pub(crate) struct Shares {
    #[command(flatten)]
    gateway: Address,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows shares, the newest first.
    List(List),
    /// Takes access back: of shares by id, or of all that a lead or a user has.
    Revoke(Revoke),
    /// Writes shares with all that is known of them, for other programs.
    Export(Export),
}

/// Which shares.
#[derive(Args)]
struct Which {
    /// Only of the lead of that id.
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
    /// Only of that user.
    #[arg(long, value_name = "ID_OR_EMAIL")]
    user: Option<String>,
    /// Only those that end within that time, such as 24h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expiring_within: Option<Duration>,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// Only in these states, such as active,uncertain.
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    state: Vec<ShareState>,
    /// Show no more than so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Args)]
#[command(override_usage = "leadgate shares revoke [OPTIONS] <SHARE_ID>...\n       \
    leadgate shares revoke [OPTIONS] --lead <ID>\n       \
    leadgate shares revoke [OPTIONS] --user <ID_OR_EMAIL>")]
struct Revoke {
    /// The ids of the shares.
    #[arg(value_name = "SHARE_ID", required_unless_present_any = ["lead", "user"],
          conflicts_with_all = ["lead", "user", "expiring_within"])]
    share_ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct Export {
    #[command(flatten)]
    which: Which,
    /// Only in these states, such as active,uncertain.
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    state: Vec<ShareState>,
    /// One line a share, after a line of names or as an object of JSON.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// A file that is there when it is complete; without it, standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(options: Shares) -> std::result::Result<(), String> {
    let is_read_only = !matches!(options.command, Command::Revoke(_));
    match dispatch(options).await {
        Err(End::Fault(fault)) => Err(fault),
        Err(End::Unread) if is_read_only => Ok(()),
        Err(End::Unread) => Err("nothing was revoked, since nobody reads what would be".to_owned()),
        Ok(()) => Ok(()),
    }
}

async fn dispatch(options: Shares) -> Result<()> {
    let gateway = options.gateway.connect().await?;
    match options.command {
        Command::List(options) => list(&gateway, options).await,
        Command::Revoke(options) => revoke(&gateway, options).await,
        Command::Export(options) => export(&gateway, options).await,
    }
}

/// Why a command ends before its end.
enum End {
    /// Something is wrong.
    Fault(String),
    /// Whoever reads our output has seen enough.
    Unread,
}

type Result<T> = std::result::Result<T, End>;

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Fault(format!("the shares cannot be written: {error}")),
        }
    }
}

impl From<csv::Error> for End {
    fn from(error: csv::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<String> for End {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Fault(explain(&status))
    }
}

impl Gateway {
    fn shares(&self) -> ShareServiceClient<Channel> {
        ShareServiceClient::new(self.channel())
    }

    /// The user's id, where an email address may be given.
    async fn user_id(&self, given: String) -> Result<String> {
        if !given.contains('@') {
            return Ok(given);
        }
        let asked = pb::GetUserRequest {
            key: Some(pb::get_user_request::Key::EmailAddress(given)),
        };
        let mut users = UserServiceClient::new(self.channel());
        let answer = users.get_user(self.request(asked)).await?.into_inner();
        Ok(answer.user.unwrap_or_default().user_id)
    }

    /// What to ask for. What is to end soon is not over yet.
    async fn asked(&self, which: Which, states: &[ShareState]) -> Result<pb::ListSharesRequest> {
        let user_id = match which.user {
            Some(given) => self.user_id(given).await?,
            None => String::new(),
        };
        let expire_before = which.expiring_within.map(|within| {
            let at = clock::now().saturating_add(within).unwrap_or(jiff::Timestamp::MAX);
            prost_types::Timestamp {
                seconds: at.as_second(),
                nanos: at.subsec_nanosecond(),
            }
        });
        let states = match states {
            [] if expire_before.is_some() => &LIVE,
            states => states,
        };
        Ok(pb::ListSharesRequest {
            lead_id: which.lead.unwrap_or_default(),
            user_id,
            states: states.iter().map(|state| *state as i32).collect(),
            expire_before,
            ..Default::default()
        })
    }

    /// Gives each share that is asked for to `take`, page by page, but no more than `most`; how many there were.
    async fn each(
        &self,
        mut asked: pb::ListSharesRequest,
        most: usize,
        mut take: impl FnMut(Share) -> Result<()>,
    ) -> Result<usize> {
        let mut count = 0;
        while count < most {
            asked.page_size = i32::try_from(PAGE.min(most - count)).unwrap_or(i32::MAX);
            let page = self.shares().list_shares(self.request(asked.clone())).await?;
            let page = page.into_inner();
            count += page.shares.len();
            page.shares.into_iter().try_for_each(&mut take)?;
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        Ok(count)
    }

    async fn get(&self, share_id: String) -> std::result::Result<Share, Status> {
        let asked = self.request(pb::GetShareRequest { share_id });
        Ok(self
            .shares()
            .get_share(asked)
            .await?
            .into_inner()
            .share
            .unwrap_or_default())
    }

    /// Revokes a share and waits until access was taken back, or for as long as a call may.
    async fn revoke(&self, share_id: String) -> std::result::Result<Share, Status> {
        let asked = pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::ShareId(share_id)),
            wait_for: pb::WaitFor::Active.into(),
            ..Default::default()
        };
        let answer = self.shares().revoke_share(self.request(asked)).await?;
        Ok(answer.into_inner().share.unwrap_or_default())
    }
}

async fn list(gateway: &Gateway, options: List) -> Result<()> {
    let asked = gateway.asked(options.which, &options.state).await?;
    let (mut out, now) = (io::stdout(), clock::now());
    let mut is_first = true;
    let show = |share: Share| {
        if std::mem::take(&mut is_first) {
            writeln!(out, "{}", header())?;
        }
        Ok(writeln!(out, "{}", row(&share, now))?)
    };
    let count = gateway.each(asked, options.limit.unwrap_or(usize::MAX), show).await?;
    note(&format!("{}. {SOURCE}", shares(count)));
    Ok(())
}

async fn revoke(gateway: &Gateway, options: Revoke) -> Result<()> {
    let found = if options.share_ids.is_empty() {
        let asked = gateway.asked(options.which, &LIVE).await?;
        let mut found = Vec::new();
        let keep = |share| {
            found.push(share);
            Ok(())
        };
        gateway.each(asked, usize::MAX, keep).await?;
        found
    } else {
        by_id(gateway, options.share_ids).await?
    };
    if found.is_empty() {
        note(&format!("There is nothing to revoke. {SOURCE}"));
        return Ok(());
    }
    let (mut shown, now) = (io::stderr(), clock::now());
    writeln!(shown, "{}", header())?;
    for share in &found {
        writeln!(shown, "{}", row(share, now))?;
    }
    if !options.yes {
        confirm(found.len())?;
    }
    revoke_all(gateway, found).await
}

/// The shares of these ids; if there is one that is not there, nothing is done to the others.
async fn by_id(gateway: &Gateway, ids: Vec<String>) -> Result<Vec<Share>> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for id in ids.into_iter().collect::<BTreeSet<_>>() {
        match gateway.get(id.clone()).await {
            Ok(share) => found.push(share),
            Err(status) => faults.push(format!("{id}: {}", explain(&status))),
        }
    }
    match faults.is_empty() {
        true => Ok(found),
        false => Err(End::Fault(format!("nothing was revoked\n  {}", faults.join("\n  ")))),
    }
}

fn confirm(count: usize) -> Result<()> {
    let count = shares(count);
    if !io::stdin().is_terminal() {
        let text = format!("nothing was revoked: there is no terminal to ask at whether to revoke {count}; give --yes");
        return Err(End::Fault(text));
    }
    write!(io::stderr(), "Revoke {count}? [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(End::Fault("nothing was revoked".to_owned())),
    }
}

/// Revokes them, some at a time, and tells of each as soon as it is settled. It is done also if nobody reads that any more.
async fn revoke_all(gateway: &Gateway, found: Vec<Share>) -> Result<()> {
    let all = found.len();
    let bar = ProgressBar::new(all as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} after {elapsed}") {
        bar.set_style(style);
    }
    let (mut waiting, mut running, mut failed) = (found.into_iter(), JoinSet::new(), 0);
    loop {
        for share in waiting.by_ref().take(AT_A_TIME - running.len()) {
            let gateway = gateway.clone();
            running.spawn(async move {
                let revoked = gateway.revoke(share.share_id.clone()).await;
                (share.share_id, revoked)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (id, revoked) = ended.map_err(|error| End::Fault(error.to_string()))?;
        failed += usize::from(revoked.is_err());
        let text = match revoked {
            Ok(share) if share.state() == ShareState::Revoking => "revoking: LeadSquared still works on it".to_owned(),
            Ok(share) => word(share.state()),
            Err(status) => format!("failed: {}", explain(&status)),
        };
        bar.inc(1);
        bar.suspend(|| {
            let _ = writeln!(io::stdout(), "{id}  {text}");
        });
    }
    bar.finish_and_clear();
    match failed {
        0 => Ok(()),
        failed => Err(End::Fault(format!("{failed} of {} could not be revoked", shares(all)))),
    }
}

async fn export(gateway: &Gateway, options: Export) -> Result<()> {
    let asked = gateway.asked(options.which, &options.state).await?;
    let Some(path) = options.out else {
        let count = write_all(gateway, asked, options.format, io::stdout(), io::stdout().is_terminal()).await?;
        note(&format!("{}. {SOURCE}", shares(count)));
        return Ok(());
    };
    let cannot = |error: io::Error| End::Fault(format!("{} cannot be written: {error}", path.display()));
    // It is replaced, which would take a device or a pipe away from all others.
    if path.exists() && !path.is_file() {
        return Err(cannot(io::Error::other("it is no file")));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = NamedTempFile::with_prefix_in(".leadgate-", folder.unwrap_or(Path::new("."))).map_err(cannot)?;
    let count = write_all(gateway, asked, options.format, file.as_file(), false).await?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(&path).map_err(|error| cannot(error.error))?;
    note(&format!("{} in {}. {SOURCE}", shares(count), path.display()));
    Ok(())
}

/// Writes all that is asked for; how many there were. Where the lines themselves are seen, no progress is shown.
async fn write_all(
    gateway: &Gateway,
    asked: pb::ListSharesRequest,
    format: Format,
    out: impl Write,
    is_seen: bool,
) -> Result<usize> {
    let bar = match is_seen {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} shares after {elapsed}") {
        bar.set_style(style);
    }
    let mut sheet = Sheet::new(format, out)?;
    let add = |share: Share| {
        bar.inc(1);
        sheet.add(&share)
    };
    let count = gateway.each(asked, usize::MAX, add).await;
    bar.finish_and_clear();
    sheet.finish()?;
    count
}

fn state(text: &str) -> std::result::Result<ShareState, String> {
    let name = format!("SHARE_STATE_{}", text.trim().to_ascii_uppercase());
    let found = ShareState::from_str_name(&name).filter(|state| *state != ShareState::Unspecified);
    found.ok_or_else(|| {
        "is none of pending, submitted, processing, active, expired, failed, revoking, revoked and uncertain".to_owned()
    })
}

fn shares(count: usize) -> String {
    match count {
        1 => "1 share".to_owned(),
        count => format!("{count} shares"),
    }
}
