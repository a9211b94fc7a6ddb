use std::fs;
use std::process::Command;

/// A user to run a server as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Who shall run a server that refuses root: nobody else (`None`) unless we are root, then
/// `postgres` or `nobody`.
pub(crate) fn other_than_root() -> Result<Option<Account>, String> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|error| format!("`id -u` does not run: {error}"))?;
    if id.stdout.trim_ascii() != b"0" {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")
        .map_err(|error| format!("/etc/passwd cannot be read: {error}"))?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account(&users, name))
        .map(Some)
        .ok_or_else(|| {
            "it does not run as root, and there is no user `postgres` or `nobody`".to_owned()
        })
}

fn account(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::account;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n\
        postgresql:x:7:8::/:/bin/sh\n\
        postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn an_account_is_found_by_its_whole_name_and_is_never_root() {
        let found = account(USERS, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert!(account(USERS, "postgre").is_none());
        assert!(account(USERS, "root").is_none());
    }
}
