package endpoint

// superlogica is the style of receivers that were written for Superlógica's
// webhooks: they read a form with data[...] and a field validationtoken, and
// answer 200 to everything, with the result in the body.
const superlogica = "superlogica"

// successBody is the answer of such a receiver that has accepted the event:
// {"status":200}, with the number quoted by some.
const successBody = `"status"\s*:\s*"?200"?\b`

// decodeStyle makes the style's settings the defaults of the endpoint's other keys.
func (e *Endpoint) decodeStyle(v value) {
	if !v.IsMap() {
		return
	}
	for _, entry := range v.Entries() {
		if entry.Name == "style" && entry.Value.IsScalar() {
			e.setStyle(entry.Value.Choice(superlogica))
		}
	}
}

func (e *Endpoint) setStyle(name string) {
	e.Style = name
	if name == superlogica {
		e.Format = FormatForm
		e.Success = Success{Status: [][2]int{{200, 200}}, Body: successBody}
	}
}

// checkStyle reports what the style needs and cannot supply.
func (e *Endpoint) checkStyle(v value) {
	if _, ok := e.Extra["validationtoken"]; e.Style != superlogica || ok {
		return
	}
	v.Errorf("write extra: {validationtoken: ...}, with the token that the receiver expects", "the style superlogica needs a validationtoken")
}
