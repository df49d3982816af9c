//! SQL: what its statements do and which tables they touch.
//!
//! Statements are told apart by their tokens, so that every dialect is read, nothing recurses, and the time is linear;
//! the parser only says whether the text is SQL at all. What is not known counts as running code.

use countersign_schemas::Effect;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::bounded::push;
use crate::stricter;

/// Of a longer text only this much is read as SQL; the rest counts as running code.
const BYTES_MAX: usize = 64 * 1024;
/// More tokens are not parsed: the parser's tree can be as deep as there are tokens.
const PARSED_TOKENS_MAX: usize = 512;
/// Of a longer condition only this much is looked at for a part that is always true.
const CONDITION_TOKENS_MAX: usize = 256;
/// Nesting that the parser follows; each level takes stack.
const PARSED_DEPTH_MAX: usize = 24;

/// What SQL statements would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    /// The strictest effect of the statements.
    pub effect: Effect,
    /// How many statements there are, empty ones apart.
    pub statements: usize,
    /// Tables that are read, lower case, as written otherwise: `schema.table`.
    pub reads: Vec<String>,
    /// Tables that are written, created, dropped or granted on.
    pub writes: Vec<String>,
    /// A DELETE or UPDATE has no condition, or one that is always true; or a table is emptied or dropped.
    pub unbounded: bool,
    /// False when the text is not SQL that could be read; the other fields are then a guess that errs on the strict side.
    pub complete: bool,
}

/// Reads SQL; never fails.
#[must_use]
pub fn read(text: &str) -> Sql {
    let head = crate::bounded::start(text, BYTES_MAX);
    let mut sql = Sql {
        effect: Effect::List,
        statements: 0,
        reads: Vec::new(),
        writes: Vec::new(),
        unbounded: false,
        complete: head.len() == text.len(),
    };
    match tokens(head) {
        Some(tokens) => {
            sql.complete &= parses(&tokens);
            for statement in tokens.split(|token| *token == Token::SemiColon) {
                Statement::read(statement, &mut sql);
            }
        }
        None => {
            // An open quote or comment: read words as if there were no quotes.
            sql.complete = false;
            for statement in head.split(';') {
                let words = statement.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
                let words: Vec<Token> =
                    words.filter(|word| !word.is_empty()).map(|word| Token::make_word(word, None)).collect();
                Statement::read(&words, &mut sql);
            }
        }
    }
    if !sql.complete {
        sql.effect = stricter(sql.effect, Effect::Execute);
    } else if sql.statements == 0 {
        sql.effect = Effect::Read;
    }
    sql
}

/// Whether a text begins like SQL and is SQL, for parameters that may hold something else.
#[must_use]
pub fn is_sql(text: &str) -> bool {
    let first = text
        .trim_start_matches(|c: char| c.is_whitespace() || c == '(')
        .split(|c: char| !c.is_alphabetic())
        .next();
    let begins = first.is_some_and(|word| {
        let word = word.to_ascii_uppercase();
        verb(&word).is_some() || matches!(word.as_str(), "WITH" | "EXPLAIN")
    });
    begins && tokens(crate::bounded::start(text, BYTES_MAX)).is_some_and(|tokens| parses(&tokens))
}

/// Tokens without blanks and comments.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let code = text.contains("/*!").then(|| with_code_comments(text));
    let text = code.as_deref().unwrap_or(text);
    let mut tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().ok()?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_) | Token::EOF));
    Some(tokens)
}

/// MySQL's `/*!50000 ... */` is code from that version on.
fn with_code_comments(text: &str) -> String {
    let mut parts = text.split("/*!");
    let mut code = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        code.push(' ');
        code.push_str(&part.trim_start_matches(|c: char| c.is_ascii_digit()).replacen("*/", " ", 1));
    }
    code
}

fn parses(tokens: &[Token]) -> bool {
    tokens.len() <= PARSED_TOKENS_MAX
        && Parser::new(&GenericDialect {})
            .with_recursion_limit(PARSED_DEPTH_MAX)
            .with_tokens(tokens.to_vec())
            .parse_statements()
            .is_ok()
}

/// What a statement does by the word it begins with.
fn verb(word: &str) -> Option<Effect> {
    Some(match word {
        "SELECT" | "VALUES" | "TABLE" | "FETCH" | "PRAGMA" => Effect::Read,
        "SHOW" | "DESCRIBE" | "DESC" => Effect::List,
        "INSERT" | "CREATE" => Effect::Create,
        "UPDATE" | "MERGE" | "REPLACE" | "UPSERT" | "ALTER" | "COMMENT" | "REINDEX" | "VACUUM"
        | "ANALYZE" | "ANALYSE" | "REFRESH" | "CLUSTER" | "OPTIMIZE" | "RENAME" => Effect::Update,
        "DELETE" | "DROP" | "TRUNCATE" => Effect::Delete,
        "GRANT" | "REVOKE" | "REASSIGN" => Effect::Grant,
        "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "USE" | "CLOSE" => {
            Effect::List
        }
        "CALL" | "DO" | "EXEC" | "EXECUTE" | "COPY" | "LOAD" | "PREPARE" | "DEALLOCATE" | "DECLARE"
        | "SET" | "ATTACH" | "DETACH" | "INSTALL" | "HANDLER" | "LOCK" | "UNLOCK" | "KILL" | "BACKUP"
        | "RESTORE" | "UNLOAD" | "EXPORT" | "IMPORT" | "SHUTDOWN" | "NOTIFY" | "LISTEN" => Effect::Execute,
        _ => return None,
    })
}

/// Functions that reach beyond the tables: files, other servers, the system.
const REACHING: [&str; 24] = [
    "COPY_FROM_PROGRAM",
    "DBLINK",
    "DBLINK_EXEC",
    "LOAD_EXTENSION",
    "LOAD_FILE",
    "LO_EXPORT",
    "LO_IMPORT",
    "OPENDATASOURCE",
    "OPENQUERY",
    "OPENROWSET",
    "PG_CANCEL_BACKEND",
    "PG_EXECUTE_SERVER_PROGRAM",
    "PG_LS_DIR",
    "PG_READ_BINARY_FILE",
    "PG_READ_FILE",
    "PG_TERMINATE_BACKEND",
    "QUERY_TO_XML",
    "SET_CONFIG",
    "SP_CONFIGURE",
    "SP_EXECUTESQL",
    "SP_OACREATE",
    "SYS_EVAL",
    "SYS_EXEC",
    "XP_CMDSHELL",
];

/// One statement while its tokens are walked.
struct Statement<'t> {
    tokens: &'t [Token],
    /// Names that WITH gives to its own queries.
    local: Vec<String>,
}

/// A DELETE or UPDATE that has not met its condition yet.
struct Open {
    depth: usize,
    bounded: bool,
}

impl<'t> Statement<'t> {
    fn read(tokens: &'t [Token], sql: &mut Sql) {
        if tokens.is_empty() {
            return;
        }
        sql.statements += 1;
        let mut statement = Statement { tokens, local: Vec::new() };
        statement.local = statement.names_of_with();
        statement.effects(sql);
        statement.tables(sql);
    }

    fn word(&self, at: usize) -> Option<String> {
        match self.tokens.get(at)? {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    fn is(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(found))
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }

    /// The statement's own verb and every verb of a query inside it.
    fn effects(&self, sql: &mut Sql) {
        let first = (0..self.tokens.len()).find(|at| self.tokens[*at] != Token::LParen).unwrap_or_default();
        let explains = self.is(first, "EXPLAIN");
        let leads = |word: &str| matches!(word, "WITH" | "EXPLAIN");
        match self.word(first) {
            Some(word) if leads(&word) => {}
            Some(word) => {
                let effect = verb(&word);
                sql.complete &= effect.is_some();
                sql.effect = stricter(sql.effect, effect.unwrap_or(Effect::Execute));
            }
            None => {
                sql.complete = false;
                sql.effect = stricter(sql.effect, Effect::Execute);
            }
        }
        if explains && !(0..self.tokens.len()).any(|at| self.is(at, "ANALYZE") || self.is(at, "ANALYSE")) {
            // The plan is shown and nothing runs.
            sql.effect = stricter(sql.effect, Effect::Read);
            return;
        }
        let mut depth = 0_usize;
        let mut open: Vec<Open> = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth = depth.saturating_sub(1);
                    while let Some(closed) = open.pop_if(|statement| statement.depth > depth) {
                        sql.unbounded |= !closed.bounded;
                    }
                }
                Token::Word(_) => self.effect_at(at, first, depth, &mut open, sql),
                _ => {}
            }
        }
        sql.unbounded |= open.iter().any(|statement| !statement.bounded);
    }

    fn effect_at(&self, at: usize, first: usize, depth: usize, open: &mut Vec<Open>, sql: &mut Sql) {
        let Some(word) = self.word(at) else { return };
        let begins = at == first || self.begins_query(at);
        match word.as_str() {
            "SELECT" | "TABLE" | "VALUES" if begins => sql.effect = stricter(sql.effect, Effect::Read),
            // `SELECT ... INTO new_table`, `SELECT ... INTO OUTFILE`.
            "INTO"
                if matches!(self.word(first).as_deref(), Some("SELECT" | "WITH"))
                    && !self.follows(at, &["INSERT", "MERGE", "REPLACE"]) =>
            {
                let file = self.is(at + 1, "OUTFILE") || self.is(at + 1, "DUMPFILE");
                sql.effect = stricter(sql.effect, if file { Effect::Execute } else { Effect::Create });
            }
            "INSERT" if begins => sql.effect = stricter(sql.effect, Effect::Create),
            "UPDATE" | "DELETE" if begins => {
                let effect = if word == "UPDATE" { Effect::Update } else { Effect::Delete };
                sql.effect = stricter(sql.effect, effect);
                open.push(Open { depth, bounded: false });
            }
            // The branches of MERGE and of ON CONFLICT are bounded by what they join.
            "DELETE" | "UPDATE" if self.follows(at, &["THEN"]) => {
                let effect = if word == "UPDATE" { Effect::Update } else { Effect::Delete };
                sql.effect = stricter(sql.effect, effect);
            }
            "MERGE" if begins => sql.effect = stricter(sql.effect, Effect::Update),
            "REPLACE" | "DUPLICATE" | "CONFLICT" if depth == 0 && self.is(first, "INSERT") => {
                sql.effect = stricter(sql.effect, Effect::Update);
            }
            "TRUNCATE" if begins => sql.unbounded = true,
            "DROP" => {
                sql.effect = stricter(sql.effect, Effect::Delete);
                sql.unbounded |= ["TABLE", "DATABASE", "SCHEMA"].iter().any(|kind| self.is(at + 1, kind));
            }
            "USER" | "ROLE" | "LOGIN" | "PRIVILEGES" | "OWNER"
                if matches!(self.word(first).as_deref(), Some("CREATE" | "ALTER" | "DROP"))
                    && at <= first + 3
                    || word == "OWNER" && self.is(first, "ALTER") =>
            {
                sql.effect = stricter(sql.effect, Effect::Grant);
            }
            "FUNCTION" | "PROCEDURE" | "TRIGGER" | "EXTENSION" | "EVENT" | "RULE"
                if self.is(first, "CREATE") =>
            {
                sql.effect = stricter(sql.effect, Effect::Execute);
            }
            "WHERE" => {
                if let Some(statement) = open.iter_mut().rfind(|statement| statement.depth == depth) {
                    statement.bounded = !self.always_true(at + 1);
                }
            }
            _ if REACHING.contains(&word.as_str()) => sql.effect = stricter(sql.effect, Effect::Execute),
            _ => {}
        }
    }

    /// Whether a query begins here: behind `(`, `AS`, `EXPLAIN`, a set operator or another query's end.
    fn begins_query(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).and_then(|at| self.tokens.get(at)) else { return true };
        match before {
            Token::LParen | Token::RParen => true,
            Token::Word(_) => self.follows(
                at,
                &[
                    "AS",
                    "EXPLAIN",
                    "ANALYZE",
                    "ANALYSE",
                    "VERBOSE",
                    "UNION",
                    "ALL",
                    "EXCEPT",
                    "INTERSECT",
                    "BEGIN",
                    "ELSE",
                    "LOOP",
                ],
            ),
            _ => false,
        }
    }

    fn follows(&self, at: usize, words: &[&str]) -> bool {
        at.checked_sub(1).is_some_and(|before| words.iter().any(|word| self.is(before, word)))
    }

    /// `1 = 1`, `'a' = 'a'`, `x = x`, `true` or `1`, alone or before OR.
    fn always_true(&self, at: usize) -> bool {
        let ends = |at: usize| {
            matches!(self.tokens.get(at), None | Some(Token::RParen))
                || ["OR", "RETURNING", "LIMIT", "ORDER"].iter().any(|word| self.is(at, word))
        };
        let truth = |at: usize| {
            self.is(at, "TRUE")
                || matches!(self.tokens.get(at), Some(Token::Number(number, _)) if number != "0")
        };
        let here = |at: usize| {
            let equal =
                self.tokens.get(at + 1) == Some(&Token::Eq) && self.tokens.get(at) == self.tokens.get(at + 2);
            (truth(at) && ends(at + 1)) || (equal && ends(at + 3))
        };
        let end = self.tokens.len().min(at + CONDITION_TOKENS_MAX);
        here(at) || (at..end).filter(|at| self.is(*at, "OR")).any(|or| here(or + 1))
    }

    fn names_of_with(&self) -> Vec<String> {
        let mut names = Vec::new();
        if (0..self.tokens.len()).any(|at| self.is(at, "WITH")) {
            for at in 1..self.tokens.len() {
                let named = self.is(at, "AS")
                    && (self.tokens.get(at + 1) == Some(&Token::LParen)
                        || self.is(at + 1, "MATERIALIZED")
                        || self.is(at + 1, "NOT"));
                if let (true, Some(Token::Word(name))) = (named, self.tokens.get(at - 1)) {
                    push(&mut names, name.value.to_lowercase());
                }
            }
        }
        names
    }

    /// Tables stand behind a few words: FROM and JOIN read, the others write, unless the statement only looks.
    fn tables(&self, sql: &mut Sql) {
        let mut depth = 0_usize;
        // Depths at which a list of tables goes on behind a comma, and whether it is written.
        let mut lists: Vec<(usize, bool)> = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth = depth.saturating_sub(1);
                    lists.retain(|(list, _)| *list <= depth);
                }
                Token::Comma => {
                    if let Some((_, writes)) = lists.last().copied().filter(|(list, _)| *list == depth) {
                        self.table(at + 1, writes, sql);
                    }
                }
                Token::Word(_) => {
                    if let Some(writes) = self.table_follows(at) {
                        lists.retain(|(list, _)| *list < depth);
                        lists.push((depth, writes));
                        self.table(at + 1, writes, sql);
                    } else if ["WHERE", "SET", "GROUP", "ORDER", "ON", "VALUES", "SELECT", "TO"]
                        .iter()
                        .any(|word| self.is(at, word))
                    {
                        lists.retain(|(list, _)| *list != depth);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Whether a table follows the word here, and if so whether it is written.
    fn table_follows(&self, at: usize) -> Option<bool> {
        let word = self.word(at)?;
        let first = self.word(0).unwrap_or_default();
        match word.as_str() {
            "FROM" => Some(self.follows(at, &["DELETE"])),
            "JOIN" | "DESCRIBE" | "DESC" if word == "JOIN" || at == 0 => Some(false),
            "USING" => (self.tokens.get(at + 1) != Some(&Token::LParen)
                && matches!(first.as_str(), "MERGE" | "DELETE"))
            .then_some(false),
            "INTO" | "TRUNCATE" | "VIEW" | "TABLE" => (!self.is(at + 1, "TABLE"))
                .then_some(!matches!(first.as_str(), "SHOW" | "TABLE" | "DESCRIBE" | "DESC")),
            "UPDATE" => (at == 0 || self.begins_query(at)).then_some(true),
            "COPY" | "MERGE" | "REFRESH" | "LOCK" | "ANALYZE" | "VACUUM" | "HANDLER" => (at == 0
                && !["INTO", "TABLE", "MATERIALIZED"].iter().any(|word| self.is(at + 1, word)))
            .then_some(true),
            "ON" => matches!(first.as_str(), "GRANT" | "REVOKE" | "CREATE").then_some(true),
            _ => None,
        }
    }

    /// The table whose name begins here.
    fn table(&self, mut at: usize, writes: bool, sql: &mut Sql) {
        const BEFORE_NAME: [&str; 13] = [
            "ONLY",
            "IF",
            "NOT",
            "EXISTS",
            "TABLE",
            "LATERAL",
            "CONCURRENTLY",
            "LOW_PRIORITY",
            "IGNORE",
            "OUTFILE",
            "DUMPFILE",
            "TEMPORARY",
            "VIEW",
        ];
        while BEFORE_NAME.iter().any(|word| self.is(at, word)) {
            at += 1;
        }
        if ["SELECT", "VALUES", "UNNEST", "GENERATE_SERIES"].iter().any(|word| self.is(at, word)) {
            return;
        }
        let mut name = String::new();
        while let Some(Token::Word(part)) = self.tokens.get(at) {
            name.push_str(&part.value.to_lowercase());
            if self.tokens.get(at + 1) != Some(&Token::Period) {
                break;
            }
            name.push('.');
            at += 2;
        }
        if !name.is_empty() && !self.local.contains(&name) {
            push(if writes { &mut sql.writes } else { &mut sql.reads }, name);
        }
    }
}
