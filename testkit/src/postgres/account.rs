//! The account of the server if root runs this process.

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Command,
};

use super::Error;
use crate::{FileError, process::Account};

/// The user that the package creates, and its group.
const NAME: &str = "postgres";
const ROOT: u32 = 0;

/// Gives a new folder to the account that will run the server. If root runs this process, that is the package's user.
pub(super) fn give(folder: &Path) -> Result<Option<Account>, Error> {
    let owner = folder.metadata().map_err(FileError::of("look at", folder))?.uid();
    if owner != ROOT {
        return Ok(None);
    }
    let account = look_up().ok_or(Error::NoAccount)?;
    chown(folder, Some(account.user), Some(account.group)).map_err(FileError::of("give away", folder))?;
    Ok(Some(account))
}

fn look_up() -> Option<Account> {
    number("-u").zip(number("-g")).map(|(user, group)| Account { user, group })
}

/// `id` finds accounts in all sources of this machine.
fn number(which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, NAME]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
