use std::fs;

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn pod(folder: &TempDir) -> KubernetesConfig {
    KubernetesConfig {
        surroundings: KubernetesSurroundings {
            server: Some("https://10.0.0.1:443".to_owned()),
            account: folder.path().to_owned(),
            kubeconfigs: Vec::new(),
        },
        ..KubernetesConfig::default()
    }
}

fn of_text(text: &str, context: Option<&str>) -> Result<Access, Error> {
    let folder = folder(&[("config", text), ("token", "from-a-file\n"), ("ca.pem", "PEM")]);
    read(&KubernetesConfig {
        kubeconfig: Some(folder.path().join("config")),
        context: context.map(str::to_owned),
        ..KubernetesConfig::default()
    })
}

/// Two contexts of one cluster; the users are to be filled in.
fn kubeconfig(user: &str) -> String {
    format!(
        "current-context: one\n\
         contexts:\n\
         - name: one\n  context: {{ cluster: c, user: u }}\n\
         - name: two\n  context: {{ cluster: c, user: u, namespace: shop }}\n\
         - name: lost\n  context: {{ cluster: nowhere }}\n\
         clusters:\n- name: c\n  cluster: {{ server: \"https://a:6443\", certificate-authority: ca.pem }}\n\
         users:\n- name: u\n  user: {user}\n"
    )
}

fn token(access: &Access) -> &str {
    match &access.identity {
        Identity::Token(token) => token,
        _ => panic!("{access:?}"),
    }
}

#[test]
fn a_pod_is_who_its_account_says_and_a_token_that_is_replaced_is_read_anew() {
    let folder = folder(&[("token", "first"), ("ca.crt", "PEM"), ("namespace", "shop")]);
    let access = read(&pod(&folder)).unwrap();
    assert_eq!((access.server.as_str(), access.namespace.as_str()), ("https://10.0.0.1:443", "shop"));
    assert_eq!(token(&access), "first");
    fs::write(folder.path().join("token"), "second\n").unwrap();
    assert_eq!(token(&read(&pod(&folder)).unwrap()), "second");
    assert!(!format!("{access:?}").contains("first"), "{access:?}");
}

#[test]
fn a_pod_without_a_token_is_told_what_to_do() {
    let error = read(&pod(&folder(&[("ca.crt", "PEM")]))).unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("automountServiceAccountToken")), "{error}");
    let error = read(&pod(&folder(&[("ca.crt", "PEM"), ("token", " \n")]))).unwrap_err();
    assert!(error.to_string().contains("holds no token"), "{error}");
}

#[test]
fn a_kubeconfig_that_is_named_goes_before_the_account() {
    let folder = folder(&[("config", &kubeconfig("{ token: x }")), ("ca.pem", "PEM")]);
    let named = KubernetesConfig { kubeconfig: Some(folder.path().join("config")), ..pod(&folder) };
    assert_eq!(read(&named).unwrap().server, "https://a:6443");
    // Only a kubeconfig has contexts.
    let mut context = KubernetesConfig { context: Some("two".to_owned()), ..pod(&folder) };
    context.surroundings.kubeconfigs = vec![folder.path().join("config")];
    assert_eq!(read(&context).unwrap().namespace, "shop");
}

#[test]
fn a_context_names_cluster_user_and_namespace() {
    let access = of_text(&kubeconfig("{ tokenFile: token }"), None).unwrap();
    assert_eq!((access.namespace.as_str(), token(&access)), ("default", "from-a-file"));
    assert_eq!(access.authority.as_deref(), Some(&b"PEM"[..]));
    assert_eq!(of_text(&kubeconfig("{ token: x }"), Some("two")).unwrap().namespace, "shop");
}

#[test]
fn users_are_known_by_what_kubectl_knows_them_by() {
    let identity = |user: &str| of_text(&kubeconfig(user), None).map(|access| access.identity);
    assert!(matches!(identity("{}"), Ok(Identity::Anonymous)));
    assert!(matches!(identity("{ username: a, password: b }"), Ok(Identity::Basic(..))));
    let data = "{ client-certificate-data: aGk=, client-key-data: aG8= }";
    assert!(
        matches!(identity(data), Ok(Identity::Certificate(certificate, key)) if certificate == b"hi" && key == b"ho")
    );
    let exec = "{ exec: { apiVersion: client.authentication.k8s.io/v1, command: get-token, args: [\"-x\"], \
                env: [{ name: A, value: b }], provideClusterInfo: true } }";
    let Ok(Identity::Program(program)) = identity(exec) else { panic!("no program") };
    assert_eq!((program.command.as_str(), program.arguments.len()), ("get-token", 1));
    assert_eq!(program.variables, [("A".to_owned(), "b".to_owned())]);
    assert!(program.cluster.unwrap().contains("https://a:6443"));
}

#[test]
fn what_a_kubeconfig_lacks_is_said_with_its_place() {
    for (text, context, answer) in [
        (kubeconfig("{ token: x }"), Some("three"), "no context `three`, there are: one, two, lost"),
        (kubeconfig("{ token: x }"), Some("lost"), "no cluster `nowhere`"),
        (kubeconfig("{ client-certificate-data: aGk= }"), None, "no key for it"),
        (kubeconfig("{ client-certificate-data: \"%\", client-key-data: aG8= }"), None, "`client-certificate-data`"),
        (kubeconfig("{ auth-provider: { name: gcp } }"), None, "`auth-provider`"),
        (kubeconfig("{ exec: { command: x } }"), None, "no `apiVersion`"),
        (
            kubeconfig("{}").replace("server: \"https://a:6443\",", "server: \"https://a\", proxy-url: \"http://p\","),
            None,
            "proxies are not",
        ),
        ("contexts: []".to_owned(), None, "no current context"),
        ("[".to_owned(), None, "kubeconfig"),
    ] {
        let error = of_text(&text, context).unwrap_err().to_string();
        assert!(error.contains(answer) && error.contains("/config"), "{answer}: {error}");
    }
    let nowhere = read(&KubernetesConfig::default()).unwrap_err().to_string();
    assert!(nowhere.contains("no cluster is known"), "{nowhere}");
}
