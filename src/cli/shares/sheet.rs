//! Shares as lines for other programs: each field by its name in the protobuf message.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use leadgate::grpc::pb::Share;
use serde::{Serialize, Serializer};
use tonic_types::RpcStatusExt;

use super::Result;
use super::table::reason;

/// The format of exported shares.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ShareFormat {
    Csv,
    Jsonl,
}

/// Writes shares in a format.
pub(super) enum ShareWriter<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(BufWriter<W>),
}

impl<W: Write> ShareWriter<W> {
    pub(super) fn new(format: ShareFormat, out: W) -> Result<Self> {
        Ok(match format {
            ShareFormat::Csv => {
                let mut sheet = csv::Writer::from_writer(out);
                sheet.write_record(fields(&Share::default()).map(|(name, _)| name))?;
                Self::Csv(Box::new(sheet))
            }
            ShareFormat::Jsonl => Self::Jsonl(BufWriter::new(out)),
        })
    }

    pub(super) fn add(&mut self, share: &Share) -> Result<()> {
        match self {
            Self::Csv(sheet) => sheet.write_record(fields(share).map(|(_, value)| value.unwrap_or_default()))?,
            Self::Jsonl(sheet) => {
                serde_json::to_writer(&mut *sheet, &ShareObject(share)).map_err(io::Error::from)?;
                sheet.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        match &mut self {
            Self::Csv(sheet) => sheet.flush()?,
            Self::Jsonl(sheet) => sheet.flush()?,
        }
        Ok(())
    }
}

/// A share as a JSON object, with its fields in the order of the message.
struct ShareObject<'a>(&'a Share);

impl Serialize for ShareObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(fields(self.0))
    }
}

/// Returns each field of the message with its value, if it has one. Times are in RFC 3339, durations in seconds, as "1800s".
fn fields(share: &Share) -> [(&'static str, Option<String>); 18] {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(ToString::to_string);
    [
        ("share_id", text(&share.share_id)),
        ("state", text(share.state().as_str_name())),
        ("kind", text(share.kind().as_str_name())),
        ("lead_id", text(&share.lead_id)),
        ("lead_number", text(&share.lead_number)),
        ("opportunity_id", text(&share.opportunity_id)),
        ("user_id", text(&share.user_id)),
        ("activity_id", text(&share.activity_id)),
        ("access", text(share.access().as_str_name())),
        ("duration", share.duration.as_ref().map(ToString::to_string)),
        ("create_time", time(&share.create_time)),
        ("grant_time", time(&share.grant_time)),
        ("expire_time", time(&share.expire_time)),
        ("update_time", time(&share.update_time)),
        ("upstream_request_id", text(&share.upstream_request_id)),
        ("failure", share.failure.as_ref().map(failure)),
        ("uncertain_step", text(&share.uncertain_step)),
        ("extends_share_id", text(&share.extends_share_id)),
    ]
}

fn failure(status: &tonic_types::Status) -> String {
    format!(
        "{}: {}",
        reason(&status.get_error_details(), status.code),
        status.message
    )
}
