//! t
use cedar_policy::*;
use std::time::Instant;
use std::hint::black_box;
use std::collections::HashSet;
fn t(name: &str, mut f: impl FnMut()) { let best=(0..20).map(|_|{let s=Instant::now(); for _ in 0..1000 {f()} s.elapsed()/1000}).min().unwrap(); eprintln!("{name}: {best:?}"); }
fn main() {
    let uid = |t: &str, i: &str| EntityUid::from_type_name_and_id(t.parse().unwrap(), EntityId::new(i));
    let names: Vec<EntityTypeName> = ["Agent","Connector","Human","Human","Role","Tool","Vendor","Action"].iter().map(|t| t.parse().unwrap()).collect();
    let ids=["laptop-7/claude-code","laptop-7","u-123","ann@example.com","developer","claude-code/-/Bash","claude-code","execute"];
    let mk = || names.iter().zip(ids).map(|(n,i)| EntityUid::from_type_name_and_id(n.clone(), EntityId::new(i))).collect::<Vec<_>>();
    t("uids", || { black_box(mk()); });
    let u = mk();
    let act = Entity::new_no_attrs(u[7].clone(), HashSet::from([uid("Action","mutate"), uid("Action","any")]));
    let ents = || Entities::from_entities([
        Entity::new_no_attrs(u[0].clone(), u[1..5].iter().cloned().collect()),
        Entity::new_no_attrs(u[5].clone(), u[6..7].iter().cloned().collect()), act.clone()], None).unwrap();
    t("entities", || { black_box(ents()); });
    let s = |x: &str| RestrictedExpression::new_string(x.to_owned());
    let set = |x: &[&str]| RestrictedExpression::new_set(x.iter().map(|x| s(x)));
    let pairs = || vec![
      ("assuranceLevel".to_owned(), RestrictedExpression::new_long(3)), ("signals".to_owned(), set(&[])),
      ("facets".to_owned(), RestrictedExpression::new_record([("commands".to_owned(), set(&["cd","cargo","git"])), ("pathEnds".to_owned(), set(&["main.rs","src/main.rs","repo/src/main.rs"]))]).unwrap()),
      ("params".to_owned(), RestrictedExpression::new_record([("command".to_owned(), s("cd /home/ann/repo && cargo test && git commit -am done"))]).unwrap()),
      ("session".to_owned(), RestrictedExpression::new_record([("labels".to_owned(), set(&["PII"])), ("actionCount".to_owned(), RestrictedExpression::new_long(3))]).unwrap()),
    ];
    t("pairs", || { black_box(pairs()); });
    t("pairs+context", || { black_box(Context::from_pairs(pairs()).unwrap()); });
    let ctx = Context::from_pairs(pairs()).unwrap();
    t("request", || { black_box(Request::new(u[0].clone(), u[7].clone(), u[5].clone(), ctx.clone(), None).unwrap()); });
    let r = Request::new(u[0].clone(), u[7].clone(), u[5].clone(), ctx.clone(), None).unwrap();
    let e = ents();
    let a = Authorizer::new();
    t("authorizer::new", || { black_box(Authorizer::new()); });
    let empty: PolicySet = "".parse().unwrap();
    t("empty set", || { black_box(a.is_authorized(&r, &empty, &e)); });
    let conds = ["context.facets.commands.contains(\"program\")","context.params has command && context.params.command like \"*--flag*\"","context.facets.pathEnds.containsAny([\".config/file\", \"secret\"])","context.session.labels.contains(\"L\") && context.session.actionCount > 3","context.assuranceLevel < 1 || context.signals.contains(\"signal\")"];
    for c in conds { for sc in ["action == Action::\"execute\"", "action in Action::\"mutate\"", "action"] {
        let txt: String = (0..10).map(|_| format!("forbid (principal, {sc}, resource) when {{ {c} }};\n")).collect();
        let p: PolicySet = txt.parse().unwrap();
        t(&format!("10x {sc} {c}"), || { black_box(a.is_authorized(&r, &p, &e)); });
    }}
}
