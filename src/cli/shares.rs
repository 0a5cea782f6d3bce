//! `leadgate shares`: lists, revokes and exports the shares of a running gateway. It is a client of the gateway and never opens
//! the store.

mod sheet;
mod table;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use leadgate::clock;
use leadgate::domain::characters::{self, TextForm};
use leadgate::grpc::{pb, timestamp};
use pb::share_service_client::ShareServiceClient;
use pb::user_service_client::UserServiceClient;
use pb::{Share, ShareState};
use sheet::{ShareFormat, ShareWriter};
use table::{header, row, state_name};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tonic::Status;

use crate::cli::client::{GatewayChannel, GatewayClient, GatewayOptions, explain, note};
use crate::cli::process::parse_duration;

/// The number of shares of a page.
const PAGE_SIZE: usize = 500;
/// Maximum number of shares that are revoked concurrently. More would only wait for the quota.
const MAX_CONCURRENT: usize = 16;
/// The note about the shares that are not in the ledger.
const SOURCE: &str =
    "The ledger has the shares made through leadgate, but no shares made by automations or other clients.";
/// The states in which the user has access, may have it or will get it.
const NOT_ENDED: [ShareState; 6] = [
    ShareState::Pending,
    ShareState::Submitted,
    ShareState::Processing,
    ShareState::Active,
    ShareState::Revoking,
    ShareState::Uncertain,
];

#[derive(Args)]
pub(crate) struct SharesOptions {
    #[command(flatten)]
    gateway: GatewayOptions,
    #[command(subcommand)]
    command: SharesCommand,
}

#[derive(Subcommand)]
enum SharesCommand {
    /// List shares, the newest first.
    List(ListOptions),
    /// Revoke access: of shares by id, or of all shares of a lead or a user.
    Revoke(RevokeOptions),
    /// Write shares with all fields, for other programs.
    Export(ShareExportOptions),
}

/// The selected shares.
#[derive(Args)]
struct ShareSelection {
    /// Only shares of the lead with this id.
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
    /// Only shares with this user.
    #[arg(long, value_name = "ID_OR_EMAIL")]
    user: Option<String>,
    /// Only shares that end within this time, such as 24h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expiring_within: Option<Duration>,
}

#[derive(Args)]
struct ListOptions {
    #[command(flatten)]
    selection: ShareSelection,
    /// Only shares in these states, such as active,uncertain.
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    state: Vec<ShareState>,
    /// Maximum number of shares to list.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Args)]
#[command(override_usage = "leadgate shares revoke [OPTIONS] <SHARE_ID>...\n       \
    leadgate shares revoke [OPTIONS] --lead <ID>\n       \
    leadgate shares revoke [OPTIONS] --user <ID_OR_EMAIL>")]
struct RevokeOptions {
    /// The ids of the shares.
    #[arg(value_name = "SHARE_ID", required_unless_present_any = ["lead", "user"],
          conflicts_with_all = ["lead", "user", "expiring_within"])]
    share_ids: Vec<String>,
    #[command(flatten)]
    selection: ShareSelection,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct ShareExportOptions {
    #[command(flatten)]
    selection: ShareSelection,
    /// Only shares in these states, such as active,uncertain.
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state)]
    state: Vec<ShareState>,
    /// The format: csv, with a line of field names, or jsonl, with one JSON object per line.
    #[arg(long, value_enum, default_value_t = ShareFormat::Csv)]
    format: ShareFormat,
    /// The output file. It is created when the export is complete [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(options: SharesOptions) -> std::result::Result<(), String> {
    let is_read_only = !matches!(options.command, SharesCommand::Revoke(_));
    match dispatch(options).await {
        Err(SharesError::Failed(error)) => Err(error),
        Err(SharesError::OutputClosed) if is_read_only => Ok(()),
        Err(SharesError::OutputClosed) => Err("nothing was revoked, because the output was closed".to_owned()),
        Ok(()) => Ok(()),
    }
}

async fn dispatch(options: SharesOptions) -> Result<()> {
    let gateway = options.gateway.connect().await?;
    match options.command {
        SharesCommand::List(options) => list(&gateway, options).await,
        SharesCommand::Revoke(options) => revoke(&gateway, options).await,
        SharesCommand::Export(options) => export(&gateway, options).await,
    }
}

/// Why a command ends early.
enum SharesError {
    /// It failed.
    Failed(String),
    /// The reader of the output closed it, as `head` does.
    OutputClosed,
}

type Result<T> = std::result::Result<T, SharesError>;

impl From<io::Error> for SharesError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("writing the shares failed: {error}")),
        }
    }
}

impl From<csv::Error> for SharesError {
    fn from(error: csv::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<String> for SharesError {
    fn from(error: String) -> Self {
        Self::Failed(error)
    }
}

impl From<Status> for SharesError {
    fn from(status: Status) -> Self {
        Self::Failed(explain(&status))
    }
}

impl GatewayClient {
    fn shares(&self) -> ShareServiceClient<GatewayChannel> {
        ShareServiceClient::new(self.channel())
    }

    /// Returns the id of a user that is given by id or email address.
    async fn user_id(&self, given: String) -> Result<String> {
        if !given.contains('@') {
            return Ok(given);
        }
        let request = pb::GetUserRequest {
            key: Some(pb::get_user_request::Key::EmailAddress(given)),
        };
        let mut users = UserServiceClient::new(self.channel());
        let response = users.get_user(self.request(request)).await?.into_inner();
        Ok(response.user.unwrap_or_default().user_id)
    }

    /// Returns the request for the selected shares. A selection of shares that end soon has no ended shares.
    async fn list_request(&self, selection: ShareSelection, states: &[ShareState]) -> Result<pb::ListSharesRequest> {
        let user_id = match selection.user {
            Some(given) => self.user_id(given).await?,
            None => String::new(),
        };
        let expire_before = selection.expiring_within.map(|within| {
            let at = clock::now().saturating_add(within).unwrap_or(jiff::Timestamp::MAX);
            timestamp(at)
        });
        let states = match states {
            [] if expire_before.is_some() => &NOT_ENDED,
            states => states,
        };
        Ok(pb::ListSharesRequest {
            lead_id: selection.lead.unwrap_or_default(),
            user_id,
            states: states.iter().map(|state| *state as i32).collect(),
            expire_before,
            ..Default::default()
        })
    }

    /// Passes each selected share to `take`, page by page, `max` at most. Returns their number.
    async fn for_each(
        &self,
        mut request: pb::ListSharesRequest,
        max: usize,
        mut take: impl FnMut(Share) -> Result<()>,
    ) -> Result<usize> {
        let mut count = 0;
        while count < max {
            request.page_size = i32::try_from(PAGE_SIZE.min(max - count)).unwrap_or(i32::MAX);
            let page = self.shares().list_shares(self.request(request.clone())).await?;
            let page = page.into_inner();
            count += page.shares.len();
            page.shares.into_iter().try_for_each(&mut take)?;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Ok(count)
    }

    async fn get(&self, share_id: String) -> std::result::Result<Share, Status> {
        let request = self.request(pb::GetShareRequest { share_id });
        Ok(self
            .shares()
            .get_share(request)
            .await?
            .into_inner()
            .share
            .unwrap_or_default())
    }

    /// Revokes a share and waits until access is revoked, or for the timeout of a call.
    async fn revoke(&self, share_id: String) -> std::result::Result<Share, Status> {
        let request = pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::ShareId(share_id)),
            wait_for: pb::WaitFor::Active.into(),
            ..Default::default()
        };
        let response = self.shares().revoke_share(self.request(request)).await?;
        Ok(response.into_inner().share.unwrap_or_default())
    }
}

async fn list(gateway: &GatewayClient, options: ListOptions) -> Result<()> {
    let request = gateway.list_request(options.selection, &options.state).await?;
    let (mut out, now) = (io::stdout(), clock::now());
    let mut is_first = true;
    let show = |share: Share| {
        if std::mem::take(&mut is_first) {
            writeln!(out, "{}", header())?;
        }
        Ok(writeln!(out, "{}", row(&share, now))?)
    };
    let count = gateway
        .for_each(request, options.limit.unwrap_or(usize::MAX), show)
        .await?;
    note(&format!("{}. {SOURCE}", shares(count)));
    Ok(())
}

async fn revoke(gateway: &GatewayClient, options: RevokeOptions) -> Result<()> {
    let found = if options.share_ids.is_empty() {
        let request = gateway.list_request(options.selection, &NOT_ENDED).await?;
        let mut found = Vec::new();
        let keep = |share| {
            found.push(share);
            Ok(())
        };
        gateway.for_each(request, usize::MAX, keep).await?;
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

/// Returns the shares of these ids. Fails if one of them does not exist, so that none is revoked.
async fn by_id(gateway: &GatewayClient, ids: Vec<String>) -> Result<Vec<Share>> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for id in ids.into_iter().collect::<BTreeSet<_>>() {
        match gateway.get(id.clone()).await {
            Ok(share) => found.push(share),
            Err(status) => errors.push(format!("{id}: {}", explain(&status))),
        }
    }
    match errors.is_empty() {
        true => Ok(found),
        false => Err(SharesError::Failed(format!(
            "nothing was revoked\n  {}",
            errors.join("\n  ")
        ))),
    }
}

fn confirm(count: usize) -> Result<()> {
    let count = shares(count);
    if !io::stdin().is_terminal() {
        let text = format!("nothing was revoked: there is no terminal to confirm revoking {count}; give --yes");
        return Err(SharesError::Failed(text));
    }
    write!(io::stderr(), "Revoke {count}? [y/N] ")?;
    io::stderr().flush()?;
    let mut response = String::new();
    io::stdin().read_line(&mut response)?;
    match response.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(SharesError::Failed("nothing was revoked".to_owned())),
    }
}

/// Revokes shares concurrently, and prints the result of each one as soon as it is known. Continues if the output is closed.
async fn revoke_all(gateway: &GatewayClient, found: Vec<Share>) -> Result<()> {
    let all = found.len();
    let bar = ProgressBar::new(all as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} after {elapsed}") {
        bar.set_style(style);
    }
    let (mut waiting, mut running, mut failed) = (found.into_iter(), JoinSet::new(), 0);
    loop {
        for share in waiting.by_ref().take(MAX_CONCURRENT - running.len()) {
            let gateway = gateway.clone();
            running.spawn(async move {
                let revoked = gateway.revoke(share.share_id.clone()).await;
                (share.share_id, revoked)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (id, revoked) = ended.map_err(|error| SharesError::Failed(error.to_string()))?;
        failed += usize::from(revoked.is_err());
        let text = match revoked {
            Ok(share) if share.state() == ShareState::Revoking => "revoking: LeadSquared still processes it".to_owned(),
            Ok(share) => state_name(share.state()),
            Err(status) => {
                let error = explain(&status);
                format!("failed: {}", characters::visible(&error, TextForm::Line))
            }
        };
        bar.inc(1);
        bar.suspend(|| {
            let _ = writeln!(io::stdout(), "{id}  {text}");
        });
    }
    bar.finish_and_clear();
    match failed {
        0 => Ok(()),
        failed => Err(SharesError::Failed(format!(
            "revoking {failed} of {} failed",
            shares(all)
        ))),
    }
}

async fn export(gateway: &GatewayClient, options: ShareExportOptions) -> Result<()> {
    let request = gateway.list_request(options.selection, &options.state).await?;
    let Some(path) = options.out else {
        let count = write_all(
            gateway,
            request,
            options.format,
            io::stdout(),
            io::stdout().is_terminal(),
        )
        .await?;
        note(&format!("{}. {SOURCE}", shares(count)));
        return Ok(());
    };
    let cannot = |error: io::Error| SharesError::Failed(format!("writing {} failed: {error}", path.display()));
    // The output file is replaced, which must not happen to a device or a pipe.
    if path.exists() && !path.is_file() {
        return Err(cannot(io::Error::other("it is not a file")));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = NamedTempFile::with_prefix_in(".leadgate-", folder.unwrap_or(Path::new("."))).map_err(cannot)?;
    let count = write_all(gateway, request, options.format, file.as_file(), false).await?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(&path).map_err(|error| cannot(error.error))?;
    note(&format!("{} in {}. {SOURCE}", shares(count), path.display()));
    Ok(())
}

/// Writes all selected shares, and returns their number. Shows no progress if the lines are on the terminal.
async fn write_all(
    gateway: &GatewayClient,
    request: pb::ListSharesRequest,
    format: ShareFormat,
    out: impl Write,
    is_terminal: bool,
) -> Result<usize> {
    let bar = match is_terminal {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} shares after {elapsed}") {
        bar.set_style(style);
    }
    let mut sheet = ShareWriter::new(format, out)?;
    let add = |share: Share| {
        bar.inc(1);
        sheet.add(&share)
    };
    let count = gateway.for_each(request, usize::MAX, add).await;
    bar.finish_and_clear();
    sheet.finish()?;
    count
}

fn state(text: &str) -> std::result::Result<ShareState, String> {
    let name = format!("SHARE_STATE_{}", text.trim().to_ascii_uppercase());
    let found = ShareState::from_str_name(&name).filter(|state| *state != ShareState::Unspecified);
    found.ok_or_else(|| {
        "must be pending, submitted, processing, active, expired, failed, revoking, revoked or uncertain".to_owned()
    })
}

fn shares(count: usize) -> String {
    match count {
        1 => "1 share".to_owned(),
        count => format!("{count} shares"),
    }
}
