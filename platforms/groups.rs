//! The folders of the control groups that this process is in (pure; files are handed in).
//!
//! Both versions of cgroups, in a container (where the group is the root of what is mounted) and outside.

use crate::memory::ReadFile;

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group's folder, or where it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) path: String,
    pub(crate) is_v2: bool,
}

/// Returns the folders for a controller, the innermost first. A group inherits the limits of those above it, so all of them
/// are told; not each need exist: what a container sees as its root has another path on the host.
///
/// `mounts` are the names that version 1 mounts this controller under.
pub(crate) fn folders(controller: &str, mounts: &[&str], read: ReadFile<'_>) -> Vec<Folder> {
    let Some(groups) = read("/proc/self/cgroup") else { return Vec::new() };
    let path_of = |wanted: &dyn Fn(&str, &str) -> bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(id, controllers).then(|| path.trim_end_matches('/').to_owned())
        })
    };
    let v1 = path_of(&|_, controllers| controllers.split(',').any(|one| one == controller));
    let v2 = path_of(&|id, controllers| id == "0" && controllers.is_empty());
    let mut found = Vec::new();
    let mut under = |root: &str, path: &str, is_v2: bool| {
        let mut path = path;
        loop {
            found.push(Folder { path: format!("{root}{path}"), is_v2 });
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => return,
            }
        }
    };
    if let Some(path) = v1 {
        for mount in mounts {
            under(&format!("{ROOT}/{mount}"), &path, false);
        }
    }
    if let Some(path) = v2 {
        under(ROOT, &path, true);
    }
    found
}
