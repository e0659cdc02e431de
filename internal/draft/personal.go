package draft

import (
	"slices"
	"strings"
	"unicode"

	"gancho/cdc"
)

// nameWords are the words of a name as it is written, without accents and in
// lower case: nrCPF_titular is nr, cpf, titular.
func nameWords(name string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, plain(string(word)))
			word = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r):
			end()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsUpper(runes[i-1])):
			end()
		}
		word = append(word, r)
	}
	end()
	return words
}

// personal is a kind of value that is sent masked, or not at all.
type personal struct {
	// mask is the function for it; empty: nothing shows a part of it.
	mask string
	// words mean it where they are a word of the name, parts also inside of one.
	words, parts []string
	// digits is the length that a number is filled up to before it is masked.
	digits string
}

// kindsOfPersonal are looked through in order.
func kindsOfPersonal() []personal {
	return []personal{
		{words: []string{"pin", "otp", "salt", "hash", "pwd", "pass", "cvv", "cvc", "csc", "chave", "secret", "segredo", "certificado"},
			parts: []string{"senha", "password", "passwd", "passphrase", "token", "apikey", "credencia", "credential", "privatekey", "assinatura digital"}},
		{words: []string{"digital", "face", "facial"}, parts: []string{"biometri", "fingerprint", "foto", "photo", "picture", "avatar", "selfie", "impressao"}},
		{mask: "mask_email", words: []string{"mail", "email"}, parts: []string{"email"}},
		{mask: "mask_cpf", words: []string{"cpf"}, parts: []string{"cpfcnpj", "cnpjcpf", "cgccpf", "cpf"}, digits: "11"},
		{mask: "mask_cnpj", words: []string{"cnpj", "cgc"}, digits: "14"},
		{mask: "mask_phone", words: []string{"fone", "phone", "tel", "telef", "telcel", "cel", "fax", "ddd", "mobile"},
			parts: []string{"celular", "telefone", "telephone", "phone", "whatsapp", "cellphone"}},
		{mask: "last4", words: []string{"cartao", "card", "pan", "iban", "creditcard"}, parts: []string{"cartao", "creditcard", "cardnumber"}},
		{words: []string{"rg", "ssn", "pis", "pasep", "nis", "nit", "cns", "cnh", "ctps", "ident", "passaporte", "passport"},
			parts: []string{"identidade", "passaporte", "passport", "tituloeleitor"}},
		{words: []string{"nasc", "nascim", "birth", "dob", "raca", "race", "etnia", "religiao", "religion", "deficiencia", "sangue", "cid", "salario", "salary"},
			parts: []string{"nascimento", "birthdate", "birthday", "etnic", "ethnic", "prontuario", "diagnostico"}},
		{words: []string{"ip"}, parts: []string{"ipaddress", "useragent"}},
	}
}

// personal finds what kind of personal data or secret a column's name, or that of its
// domain, says it holds.
func (c *column) personal() (personal, bool) {
	kind, is := isPersonal(c.name)
	if !is {
		kind, is = isPersonal(c.kind)
	}
	return kind, is
}

// Personal reports whether a name says that what it names is personal data or a secret.
func Personal(name string) bool {
	_, is := isPersonal(name)
	return is
}

func isPersonal(name string) (personal, bool) {
	words, whole := nameWords(name), plain(name)
	for _, kind := range kindsOfPersonal() {
		for _, w := range words {
			if slices.Contains(kind.words, w) || slices.Contains(kind.words, singular(w)) {
				return kind, true
			}
		}
		if slices.ContainsFunc(kind.parts, func(part string) bool { return strings.Contains(whole, strings.ReplaceAll(part, " ", "")) }) {
			return kind, true
		}
	}
	return personal{}, false
}

// textTypes and numberTypes are the base types that masks are written for.
func isText(c *column) bool { return slices.Contains([]string{"text", "varchar", "bpchar"}, c.base) }

func isNumber(c *column) bool { return slices.Contains([]string{"int4", "int8", "numeric"}, c.base) }

// leaf is the expression that shows a column in a payload, and a remark about it.
// It is not to be sent if send is false.
func leaf(c *column) (expression, remark string, send bool) {
	name := cdc.QuoteIdentifier(c.name)
	kind, isOne := c.personal()
	flag := c.base == "bool" || c.kind == "character(1)" // whether there is one, and not it itself
	switch {
	case c.generated:
		return c.formula, "generated: the stream does not have it, and this is its formula", false
	case c.base == "bytea" || c.base == "oid" || c.base == "lo":
		return name, "binary", false
	case c.base == "tsvector" || c.base == "xml":
		return name, "large", false
	case !isOne || flag || slices.Contains([]string{"date", "timestamp", "timestamptz"}, c.base) && kind.mask != "":
		return name, "", true
	case kind.mask != "" && isText(c):
		return kind.mask + "(" + name + ")", "masked", true
	case kind.digits != "" && isNumber(c):
		return kind.mask + "(lpad(" + name + "::text, " + kind.digits + ", '0'))", "masked", true
	}
	return name, "personal or secret, by its name", false
}
