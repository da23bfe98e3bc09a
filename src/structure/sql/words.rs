//! The words that SQL dialects reserve or that only an attack names, by what they do in a query.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `or`, `and`, `xor`.
    Logic,
    Not,
    /// Operators that compare and are spelt out.
    Like,
    In,
    Is,
    Between,
    /// `div`, `mod`.
    Arithmetic,
    Select,
    /// `union` and the other set operators.
    Union,
    /// What may stand between `select` and its list.
    Distinct,
    Top,
    From,
    Where,
    Having,
    /// `order`, `group`.
    Order,
    By,
    Limit,
    Into,
    Outfile,
    Procedure,
    Analyse,
    Insert,
    Update,
    Delete,
    /// `drop`, `create`, `alter`, `truncate`.
    Define,
    /// What they act on.
    Object,
    Exec,
    Declare,
    Waitfor,
    Delay,
    Begin,
    Call,
    Set,
    Values,
    If,
    Case,
    When,
    /// `then`, `else`.
    Then,
    /// `null`, `true`, `false`.
    Literal,
    As,
    Exists,
    /// `show`, `handler`, `prepare`, `copy`, `load`, `shutdown`: statements of one dialect.
    Statement,
    /// `boolean` of `in boolean mode`.
    Boolean,
    /// An ordinary function.
    Function,
    /// `char`, `chr`: spells a string out.
    Char,
    /// `sleep`: also a word of many languages.
    Sleep,
    /// A function whose call is an attack.
    Danger,
    /// A catalogue table or package that applications do not name in parameters.
    Schema,
}

/// Longest word in the table.
const LONGEST: usize = 24;

/// What `word` means in SQL, whatever its case.
pub(super) fn classify(word: &[u8]) -> Option<Word> {
    if word.len() < 2 || word.len() > LONGEST {
        return None;
    }
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let lower = &*lower;
    let first = *lower.first()?;
    let (start, end) = *RUNS.get(usize::from(first.wrapping_sub(b'a')))?;
    let run = WORDS.get(usize::from(start)..usize::from(end))?;
    if let Some((_, word)) = run.iter().find(|(known, _)| known.as_bytes() == lower) {
        return Some(*word);
    }
    let prefixed = |prefix: &[u8]| lower.starts_with(prefix);
    if prefixed(b"xp_") {
        Some(Word::Danger)
    } else if [&b"dbms_"[..], b"utl_", b"rdb$", b"v$", b"dba_"]
        .into_iter()
        .any(prefixed)
    {
        Some(Word::Schema)
    } else {
        None
    }
}

/// For each letter, which of [`WORDS`] begin with it.
const RUNS: [(u16, u16); 26] = {
    let mut runs = [(0, 0); 26];
    let mut i = 0;
    while i < WORDS.len() {
        let run = &mut runs[(WORDS[i].0.as_bytes()[0] - b'a') as usize];
        let start = if run.1 == 0 { i as u16 } else { run.0 };
        *run = (start, i as u16 + 1);
        i += 1;
    }
    runs
};

/// Sorted, so that words with the same first letter stand together.
const WORDS: &[(&str, Word)] = {
    use Word::*;
    &[
        ("all", Distinct),
        ("all_tab_columns", Schema),
        ("all_tables", Schema),
        ("all_users", Schema),
        ("alter", Define),
        ("analyse", Analyse),
        ("analyze", Analyse),
        ("and", Logic),
        ("as", As),
        ("ascii", Function),
        ("backup", Statement),
        ("begin", Begin),
        ("benchmark", Danger),
        ("between", Between),
        ("boolean", Boolean),
        ("bulk", Statement),
        ("by", By),
        ("call", Call),
        ("case", Case),
        ("cast", Function),
        ("char", Char),
        ("char_length", Function),
        ("chr", Char),
        ("coalesce", Function),
        ("concat", Function),
        ("concat_ws", Function),
        ("conv", Function),
        ("convert", Function),
        ("copy", Statement),
        ("count", Function),
        ("create", Define),
        ("crypt_key", Danger),
        ("ctxsys", Schema),
        ("current_setting", Danger),
        ("current_user", Function),
        ("database", Object),
        ("database_to_xml", Danger),
        ("db_name", Function),
        ("dblink", Danger),
        ("declare", Declare),
        ("delay", Delay),
        ("delete", Delete),
        ("distinct", Distinct),
        ("distinctrow", Distinct),
        ("div", Arithmetic),
        ("drop", Define),
        ("dumpfile", Outfile),
        ("else", Then),
        ("elt", Function),
        ("except", Union),
        ("exec", Exec),
        ("execute", Exec),
        ("exists", Exists),
        ("exp", Function),
        ("extractvalue", Danger),
        ("false", Literal),
        ("find_in_set", Function),
        ("floor", Function),
        ("from", From),
        ("function", Object),
        ("generate_series", Danger),
        ("glob", Like),
        ("grant", Statement),
        ("greatest", Function),
        ("group", Order),
        ("group_concat", Function),
        ("gtid_subset", Danger),
        ("gtid_subtract", Danger),
        ("handler", Statement),
        ("having", Having),
        ("hex", Function),
        ("host_name", Function),
        ("httpuritype", Danger),
        ("if", If),
        ("ifnull", Function),
        ("iif", If),
        ("ilike", Like),
        ("in", In),
        ("information_schema", Schema),
        ("insert", Insert),
        ("instr", Function),
        ("intersect", Union),
        ("into", Into),
        ("is", Is),
        ("isnull", Function),
        ("json_extract", Function),
        ("json_keys", Function),
        ("lcase", Function),
        ("least", Function),
        ("left", Function),
        ("len", Function),
        ("length", Function),
        ("like", Like),
        ("limit", Limit),
        ("listagg", Function),
        ("lo_export", Danger),
        ("lo_import", Danger),
        ("load", Statement),
        ("load_extension", Danger),
        ("load_file", Danger),
        ("locate", Function),
        ("lower", Function),
        ("lpad", Function),
        ("make_set", Function),
        ("md5", Function),
        ("mid", Function),
        ("minus", Union),
        ("mod", Arithmetic),
        ("msysobjects", Schema),
        ("name_const", Danger),
        ("nchar", Char),
        ("not", Not),
        ("null", Literal),
        ("nullif", Function),
        ("nvl", Function),
        ("object_id", Function),
        ("offset", Limit),
        ("opendatasource", Danger),
        ("openquery", Danger),
        ("openrowset", Danger),
        ("or", Logic),
        ("ord", Function),
        ("order", Order),
        ("outfile", Outfile),
        ("password", Function),
        ("pg_catalog", Schema),
        ("pg_class", Schema),
        ("pg_database", Schema),
        ("pg_group", Schema),
        ("pg_ls_dir", Danger),
        ("pg_read_file", Danger),
        ("pg_shadow", Schema),
        ("pg_sleep", Danger),
        ("pg_sleep_for", Danger),
        ("pg_sleep_until", Danger),
        ("pg_tables", Schema),
        ("pg_user", Schema),
        ("prepare", Statement),
        ("procedure", Procedure),
        ("query_to_xml", Danger),
        ("quote", Function),
        ("rand", Function),
        ("randomblob", Danger),
        ("regexp", Like),
        ("regexp_like", Function),
        ("regexp_substring", Danger),
        ("repeat", Function),
        ("replace", Insert),
        ("reverse", Function),
        ("right", Function),
        ("rlike", Like),
        ("row", Function),
        ("rpad", Function),
        ("schema", Object),
        ("select", Select),
        ("session_user", Function),
        ("set", Set),
        ("sha1", Function),
        ("show", Statement),
        ("shutdown", Statement),
        ("similar", Like),
        ("sleep", Sleep),
        ("sounds", Like),
        ("sp_configure", Danger),
        ("sp_executesql", Danger),
        ("sp_makewebtask", Danger),
        ("sp_oacreate", Danger),
        ("sp_password", Danger),
        ("sqlite_master", Schema),
        ("sqlite_schema", Schema),
        ("strcmp", Function),
        ("string_agg", Function),
        ("substr", Function),
        ("substring", Function),
        ("suser_sname", Function),
        ("sys_eval", Danger),
        ("sys_exec", Danger),
        ("syscat", Schema),
        ("syscolumns", Schema),
        ("sysdatabases", Schema),
        ("sysibm", Schema),
        ("sysobjects", Schema),
        ("system_user", Function),
        ("sysusers", Schema),
        ("table", Object),
        ("then", Then),
        ("to_char", Function),
        ("top", Top),
        ("true", Literal),
        ("truncate", Define),
        ("typeof", Function),
        ("ucase", Function),
        ("unhex", Function),
        ("unicode", Function),
        ("union", Union),
        ("update", Update),
        ("updatexml", Danger),
        ("upper", Function),
        ("user", Function),
        ("user_lock", Schema),
        ("user_tab_columns", Schema),
        ("user_tables", Schema),
        ("values", Values),
        ("version", Function),
        ("view", Object),
        ("waitfor", Waitfor),
        ("when", When),
        ("where", Where),
        ("wm_concat", Function),
        ("xmltype", Danger),
        ("xor", Logic),
    ]
};

#[cfg(test)]
#[test]
fn the_table_is_sorted_and_fits() {
    assert!(WORDS.windows(2).all(|w| w[0].0 < w[1].0));
    assert!(WORDS.iter().all(|(word, _)| word.len() <= LONGEST));
    assert_eq!(classify(b"SeLeCt"), Some(Word::Select));
    assert_eq!(classify(b"xp_anything"), Some(Word::Danger));
    assert_eq!(classify(b"selects"), None);
}
