//! A folder while it changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

/// A running source, asked for what each edit brings.
struct Watched {
    dir: tempfile::TempDir,
    source: Source<Input>,
}

impl Watched {
    fn start(files: &[(&str, &str)], expected: &[&str]) -> Self {
        let dir = folder(files);
        let source = start(dir.path(), &plan()).unwrap();
        let mut watched = Self { dir, source };
        let first = watched.source.batches.blocking_recv().unwrap();
        assert!(first.complete);
        assert_eq!(first.changes.len(), 4);
        assert_eq!(briefs(&first.changes), expected);
        watched
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The changes that come until all expected ones have, or a deadline passes.
    fn expect(&mut self, expected: &[&str]) {
        let mut found = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(8);
        while found.len() < expected.len() && Instant::now() < deadline {
            match self.source.batches.try_recv() {
                Ok(batch) => found.extend(briefs(&batch.changes)),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        assert_eq!(found, expected);
    }

    /// The first hosts of the next so many Ingresses that come.
    fn hosts(&mut self, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(8);
        while found.len() < count && Instant::now() < deadline {
            let Ok(batch) = self.source.batches.try_recv() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            found.extend(batch.changes.iter().filter_map(|change| match change {
                Input::Ingress(Change::Apply(ingress)) => ingress.spec.as_ref()?.rules.as_ref()?[0].host.clone(),
                _ => None,
            }));
        }
        found
    }

    fn expect_problems(&self, expected: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(8);
        loop {
            let found = problems(&self.source.view.problems());
            let same = found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
            if same {
                return;
            }
            assert!(Instant::now() < deadline, "{found:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn edits_come_out_as_what_they_change() {
    let mut watched = Watched::start(
        &[("a.yaml", &ingress("a", "a.test")), ("b.yaml", &ingress("b", "b.test"))],
        &["= Ingress default/a default/b"],
    );
    let dir = watched.path().to_owned();
    write(&dir, "a.yaml", &ingress("a", "other.test"));
    watched.expect(&["+ Ingress default/a"]);
    // A new file before the others must not make them look changed.
    write(&dir, "0.yaml", &ingress("first", "first.test"));
    watched.expect(&["+ Ingress default/first"]);
    // Only form: nothing has changed.
    write(&dir, "a.yaml", &(ingress("a", "other.test") + "# a comment\n"));
    fs::rename(dir.join("b.yaml"), dir.join("bb.yaml")).unwrap();
    fs::remove_file(dir.join("0.yaml")).unwrap();
    watched.expect(&["- Ingress default/first"]);
    fs::create_dir(dir.join("new")).unwrap();
    write(&dir, "new/c.yaml", &ingress("c", "c.test"));
    watched.expect(&["+ Ingress default/c"]);
    let web = ObjectRef::new("Ingress", landfall_model::ObjectKey::new("default", "b"));
    assert_eq!(watched.source.view.locate(&web).unwrap().to_string(), "bb.yaml:1");
    fs::remove_dir_all(dir.join("new")).unwrap();
    watched.expect(&["- Ingress default/c"]);
}

#[test]
fn a_broken_file_keeps_its_last_good_content_until_it_is_mended() {
    let both = format!("{}---\n{}", ingress("a", "a.test"), ingress("b", "b.test"));
    let mut watched = Watched::start(&[("a.yaml", &both)], &["= Ingress default/a default/b"]);
    let dir = watched.path().to_owned();
    write(
        &dir,
        "a.yaml",
        &format!("{}---\n{}", ingress("a", "new.test"), "kind: Ingress\nmetadata:\n  name: b\nspec: {"),
    );
    watched.expect(&["+ Ingress default/a"]);
    watched.expect_problems(&["a.yaml:11 InvalidManifest ingress default/b: cannot be read: "]);
    // A type error names the object, so the other one may go.
    write(&dir, "a.yaml", &ingress("b", "[]"));
    watched.expect(&["- Ingress default/a"]);
    watched.expect_problems(&["a.yaml:6 InvalidManifest ingress default/b: spec.rules[0].host"]);
    write(&dir, "a.yaml", &ingress("b", "mended.test"));
    watched.expect(&["+ Ingress default/b"]);
    watched.expect_problems(&[]);
    // An editor that empties a file before it writes it takes nothing away.
    write(&dir, "a.yaml", "");
    std::thread::sleep(Duration::from_millis(100));
    write(&dir, "a.yaml", &ingress("b", "again.test"));
    watched.expect(&["+ Ingress default/b"]);
    write(&dir, "a.yaml", "");
    watched.expect(&["- Ingress default/b"]);
}

#[test]
fn a_config_map_is_swapped_as_a_whole() {
    let dir = folder(&[]);
    let link = |target: &str| {
        let path = dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(target, &path).unwrap();
        fs::rename(path, dir.path().join("..data")).unwrap();
    };
    write(dir.path(), "..1/web.yaml", &ingress("web", "old.test"));
    link("..1");
    std::os::unix::fs::symlink("..data/web.yaml", dir.path().join("web.yaml")).unwrap();
    let mut source = start(dir.path(), &plan()).unwrap();
    assert_eq!(briefs(&source.batches.blocking_recv().unwrap().changes), ["= Ingress default/web"]);
    write(dir.path(), "..2/web.yaml", &ingress("web", "new.test"));
    link("..2");
    fs::remove_dir_all(dir.path().join("..1")).unwrap();
    let batch = source.batches.blocking_recv().unwrap();
    assert_eq!(briefs(&batch.changes), ["+ Ingress default/web"]);
    assert_eq!(problems(&source.view.problems()), [""; 0]);
}

/// git-sync and the like: the folder is a link that is swapped, or lies below one. No look every two seconds is needed.
#[test]
fn a_link_is_followed_when_it_is_swapped() {
    let dir = folder(&[]);
    let link = |target: &str| {
        let path = dir.path().join("tmp");
        std::os::unix::fs::symlink(target, &path).unwrap();
        fs::rename(path, dir.path().join("current")).unwrap();
    };
    write(dir.path(), "1/manifests/web.yaml", &ingress("web", "old.test"));
    link("1");
    let mut source = start(dir.path().join("current/manifests"), &plan()).unwrap();
    assert_eq!(briefs(&source.batches.blocking_recv().unwrap().changes), ["= Ingress default/web"]);
    let mut times = Vec::new();
    for number in 2..5 {
        let target = number.to_string();
        write(dir.path(), &format!("{target}/manifests/web.yaml"), &ingress("web", &format!("{target}.test")));
        let begun = Instant::now();
        link(&target);
        assert_eq!(briefs(&source.batches.blocking_recv().unwrap().changes), ["+ Ingress default/web"]);
        times.push(begun.elapsed());
        let begun = Instant::now();
        write(dir.path(), &format!("{target}/manifests/web.yaml"), &ingress("web", &format!("{target}.again.test")));
        assert_eq!(briefs(&source.batches.blocking_recv().unwrap().changes), ["+ Ingress default/web"]);
        times.push(begun.elapsed());
    }
    times.sort();
    println!("from swap or write to batch: {times:?}");
    assert!(times[3] < Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_thousand_files_are_read_and_one_edit_is_seen_at_once() {
    let dir = folder(&[]);
    for number in 0..1000 {
        write(dir.path(), &format!("{number:04}.yaml"), &ingress(&format!("web-{number}"), "a.test"));
    }
    let mut source = start(dir.path(), &plan()).unwrap();
    let first = source.batches.blocking_recv().unwrap();
    assert_eq!(briefs(&first.changes)[0].split(' ').count(), 1002);
    let mut times = Vec::new();
    for number in 0..5 {
        let before = Instant::now();
        write(dir.path(), "0500.yaml", &ingress("web-500", &format!("b{number}.test")));
        let batch = source.batches.blocking_recv().unwrap();
        times.push(before.elapsed());
        assert_eq!(briefs(&batch.changes), ["+ Ingress default/web-500"]);
        assert!(batch.received >= before);
    }
    times.sort();
    println!("from write to batch: {times:?}");
    // The aim is 50 ms; a busy machine gets ten times that.
    assert!(times[2] < Duration::from_millis(500), "{times:?}");
}

#[test]
fn the_thread_ends_with_its_consumer() {
    let dir = folder(&[]);
    let source = start(dir.path(), &plan()).unwrap();
    let view = source.view.clone();
    drop(source);
    let held = Arc::downgrade(view.shared());
    drop(view);
    let deadline = Instant::now() + Duration::from_secs(8);
    while held.upgrade().is_some() {
        assert!(Instant::now() < deadline, "the thread is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What is in force is not kept, so it has to be read again.
#[test]
fn an_object_comes_back_when_the_one_before_it_goes() {
    let mut watched = Watched::start(
        &[("z.yaml", &(ingress("a", "z.test") + "---\n" + &ingress("b", "b.test")))],
        &["= Ingress default/a default/b"],
    );
    let dir = watched.path().to_owned();
    write(&dir, "a.yaml", &ingress("a", "a.test"));
    watched.expect(&["+ Ingress default/a"]);
    watched.expect_problems(&["z.yaml:1 DuplicateObject ingress default/a"]);
    fs::remove_file(dir.join("a.yaml")).unwrap();
    let begun = Instant::now();
    assert_eq!(watched.hosts(1), ["z.test"]);
    assert!(begun.elapsed() < RESCAN, "at once, not with the next look");
    watched.expect_problems(&[]);
    // A file that is broken by then gives nothing back; the consumer keeps what it has, and learns why.
    write(&dir, "a.yaml", &ingress("a", "a.test"));
    watched.expect(&["+ Ingress default/a"]);
    write(&dir, "z.yaml", "kind: Ingress\nspec: {");
    watched.expect_problems(&["z.yaml:2 InvalidManifest"]);
    fs::remove_file(dir.join("a.yaml")).unwrap();
    watched.expect_problems(&["z.yaml:2 InvalidManifest"]);
    write(&dir, "z.yaml", &ingress("a", "mended.test"));
    watched.expect(&["- Ingress default/b", "+ Ingress default/a"]);
}

/// The order of files gives the order of age, also where files that did not change have to be read for it.
#[test]
fn a_file_that_moves_takes_its_age_along() {
    let mut watched = Watched::start(
        &[("b.yaml", &ingress("b", "b.test")), ("c.yaml", &ingress("c", "c.test"))],
        &["= Ingress default/b default/c"],
    );
    let dir = watched.path().to_owned();
    fs::rename(dir.join("b.yaml"), dir.join("d.yaml")).unwrap();
    assert_eq!(watched.hosts(1), ["b.test"]);
    fs::rename(dir.join("c.yaml"), dir.join("e.yaml")).unwrap();
    assert_eq!(watched.hosts(1), ["c.test"]);
    fs::rename(dir.join("d.yaml"), dir.join("f.yaml")).unwrap();
    fs::rename(dir.join("e.yaml"), dir.join("a.yaml")).unwrap();
    let last = watched.hosts(1);
    assert!(last == ["c.test"] || last == ["b.test"], "{last:?}");
    watched.expect_problems(&[]);
}
