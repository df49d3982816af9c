//! `countersign keys`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use countersign_receipt::{LogKey, ReceiptKey, TrustFile, TrustedLog, TrustedReceiptKey, generate_key_pem};
use countersign_sdk::SecretRef;
use serde_json::json;

use super::init::write_secret;
use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign keys generate keys/receipt-2.pem
  countersign keys show
  countersign keys public --receipt-key keys/receipt.pem --log-key keys/log.pem --origin countersign.example.com/log

A trust file holds public keys only: give it to auditors by another way than the exports.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an Ed25519 private key (PKCS#8 PEM, readable by its owner only). Overwrites nothing.
    Generate {
        /// The file to write.
        file: PathBuf,
    },
    /// Print the trust file of two private keys.
    Public {
        /// The key that signs receipts.
        #[arg(long, value_name = "FILE")]
        receipt_key: PathBuf,
        /// The key that signs checkpoints.
        #[arg(long, value_name = "FILE")]
        log_key: PathBuf,
        /// The log's name, as in `keys.origin`.
        #[arg(long, value_name = "NAME")]
        origin: String,
        /// The epoch of the receipt key, as in `keys.epoch`.
        #[arg(long, value_name = "N", default_value_t = 1)]
        epoch: u32,
    },
    /// Print the trust file of the configured keys.
    Show,
}

/// Makes or shows keys.
///
/// # Errors
///
/// When a key cannot be read or written.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    match &args.what {
        What::Generate { file } => generate(file, globals)?,
        What::Public { receipt_key, log_key, origin, epoch } => {
            let file = |path: &PathBuf| SecretRef::File(path.clone());
            output::json(&trust(&file(receipt_key), &file(log_key), origin, *epoch)?)?;
        }
        What::Show => {
            let keys = site::load(&globals.config)?.keys;
            output::json(&trust(&keys.receipt, &keys.log, &keys.origin, keys.epoch)?)?;
        }
    }
    Ok(Exit::Done)
}

fn generate(file: &Path, globals: &Globals) -> anyhow::Result<()> {
    write_secret(file, &generate_key_pem()?)?;
    if globals.json {
        output::json(&json!({"file": file}))
    } else {
        Ok(output::line(format_args!("wrote {}", file.display()))?)
    }
}

/// What auditors are given: the public halves.
///
/// # Errors
///
/// When a key cannot be read or used.
pub(crate) fn trust(
    receipt: &SecretRef,
    log: &SecretRef,
    origin: &str,
    epoch: u32,
) -> anyhow::Result<TrustFile> {
    let pem = receipt.read(&site::environment).context("the receipt key")?;
    let key = ReceiptKey::from_pkcs8_pem(pem.expose(), epoch).context("the receipt key")?;
    let pem = log.read(&site::environment).context("the log key")?;
    let log = LogKey::from_pkcs8_pem(origin, pem.expose()).context("the log key")?;
    Ok(TrustFile {
        log: TrustedLog { vkey: log.vkey() },
        receipt_keys: vec![TrustedReceiptKey {
            epoch,
            key_id: key.key_id().to_owned(),
            public_key_pem: key.public_pem(),
            valid_below: None,
        }],
    })
}
