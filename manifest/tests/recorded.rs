//! What is said about bad manifests, compared with what was recorded beside them. Each
//! `errors/NAME.yaml`, or folder `errors/NAME`, has its messages in `errors/NAME.txt`.
//! `UPDATE=1 cargo test -p windlass-manifest` records them anew: read the difference.

use std::{
    fs,
    path::{Path, PathBuf},
};

use windlass_api::ids::Namespace;
use windlass_manifest::{load, parse};

/// The messages of a case, with names relative to the folder of the cases.
fn messages(folder: &Path, case: &Path) -> String {
    let sources = load(&[case.to_owned()]).map(|mut sources| {
        for source in &mut sources {
            let name = Path::new(&source.name).strip_prefix(folder);
            source.name = name.expect("it is in the folder").display().to_string();
        }
        sources
    });
    let errors = match sources {
        Err(errors) => errors,
        Ok(sources) => parse(&sources, &Namespace::default()).expect_err("every case is wrong"),
    };
    format!("{errors}\n").replace(&format!("{}/", folder.display()), "")
}

#[test]
fn bad_manifests_get_the_recorded_messages() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_none_or(|e| e != "txt"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 30, "only {} cases", cases.len());

    let mut different = Vec::new();
    for case in cases {
        let recorded = case.with_extension("txt");
        let actual = messages(&folder, &case);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&recorded, &actual).expect("it can be written");
        }
        let expected = fs::read_to_string(&recorded).unwrap_or_default();
        if actual != expected {
            different.push(format!(
                "{}\n--- recorded\n{expected}--- now\n{actual}",
                recorded.display()
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
